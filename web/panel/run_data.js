// What one run has recorded, as columns that grow.

/** The rows and the state of one run. */
export class RunData {
  /** @type {number[]} */
  steps = []
  /** Name -> one value a row, null where there is none. @type {Map<string, (number | null)[]>} */
  columns = new Map()

  /** @param {string} id */
  constructor(id) {
    this.id = id
  }

  /** The last recorded step, 0 before the first. */
  get lastStep() {
    return this.steps[this.steps.length - 1] ?? 0
  }

  /**
   * Append rows. A resumed run records steps again: the rows it replaces are dropped.
   * @param {Record<string, (number | null)[]>} columns parallel columns, "step" among them
   * @returns {boolean} whether rows between the last one and these are missing
   */
  append(columns) {
    const steps = columns.step ?? []
    if (!steps.length) return false
    this.#dropFrom(steps[0])
    const isGap = steps[0] > this.lastStep + 1
    const before = this.steps.length
    extend(this.steps, steps)
    for (const name of Object.keys(columns)) {
      if (name !== "step" && !this.columns.has(name)) {
        this.columns.set(name, new Array(before).fill(null))
      }
    }
    for (const [name, values] of this.columns) {
      extend(values, columns[name] ?? new Array(steps.length).fill(null))
    }
    return isGap
  }

  /**
   * Replace all rows but those that came after the last of the new ones.
   * @param {Record<string, (number | null)[]>} columns
   */
  replace(columns) {
    const newer = this.#after(columns.step?.at(-1) ?? 0)
    this.steps = []
    this.columns.clear()
    this.append(columns)
    this.append(newer)
  }

  /** The row of the recorded step nearest to a step; -1 if there is none. */
  rowNear(step) {
    let low = 0
    let high = this.steps.length
    while (low < high) {
      const middle = (low + high) >> 1
      if (this.steps[middle] < step) low = middle + 1
      else high = middle
    }
    if (low === this.steps.length) return low - 1
    const isBefore = low > 0 && step - this.steps[low - 1] < this.steps[low] - step
    return isBefore ? low - 1 : low
  }

  #dropFrom(step) {
    const row = this.steps.findIndex((known) => known >= step)
    if (row < 0) return
    this.steps.length = row
    for (const values of this.columns.values()) values.length = row
  }

  #after(step) {
    const row = this.steps.findIndex((known) => known > step)
    if (row < 0) return {}
    const rows = [...this.columns].map(([name, values]) => [name, values.slice(row)])
    return { step: this.steps.slice(row), ...Object.fromEntries(rows) }
  }
}

/** Append values one by one: a long run has more than a call takes arguments. */
function extend(target, values) {
  for (const value of values) target.push(value)
}

/**
 * The newest value at or before a row.
 * @param {(number | null)[]} values
 * @param {number} row
 * @returns {number | null}
 */
export function valueAt(values, row) {
  for (let i = Math.min(row, values.length - 1); i >= 0; i--) {
    if (values[i] !== null) return values[i]
  }
  return null
}
