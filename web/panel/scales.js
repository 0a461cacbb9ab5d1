// From values to pixels: limits, round ticks, linear and logarithmic axes.

/**
 * @typedef {object} Scale
 * @property {number} low value at the bottom
 * @property {number} high value at the top
 * @property {(value: number) => number} place share of the height, 0 at the bottom
 * @property {number[]} ticks
 */

/** Values of a column that tell its range well enough. */
const SAMPLE = 2000

/**
 * An axis for values.
 * @param {(number | null)[][]} columns what is drawn on it
 * @param {object} options
 * @param {boolean} [options.log]
 * @param {boolean} [options.fixed] signals within [-1, 1]: the same axis for every run
 * @param {boolean} [options.fromZero] start at 0, unless values lie below it
 * @param {boolean} [options.spiky] leave out 0.5 % at either end: a spike must not press all flat
 * @param {number} [options.numTicks]
 * @returns {Scale}
 */
export function makeScale(columns, options) {
  const { log = false, fixed = false, fromZero = false, spiky = false, numTicks = 4 } = options
  const [low, high] = spiky ? centralRange(columns, log) : wholeRange(columns, log)
  if (!(low <= high)) return linear(0, 1, numTicks)
  if (fixed) return linear(low < 0 ? -1 : 0, 1, numTicks)
  return log ? logarithmic(low, high, numTicks) : padded(low, high, fromZero, numTicks)
}

/** Lowest and highest value; low above high if there is none. */
function wholeRange(columns, log) {
  let [low, high] = [Infinity, -Infinity]
  for (const values of columns) {
    for (const value of values) {
      if (value === null || (log && value <= 0)) continue
      low = Math.min(low, value)
      high = Math.max(high, value)
    }
  }
  return [low, high]
}

/** The same without 0.5 % at either end, told by a sample of a long run. */
function centralRange(columns, log) {
  const sample = columns.flatMap((values) => {
    const every = Math.ceil(values.length / SAMPLE)
    return values.filter((value, i) => i % every === 0 && value !== null && (!log || value > 0))
  })
  sample.sort((a, b) => a - b)
  const cut = Math.floor(sample.length * 0.005)
  return [sample[cut], sample[sample.length - 1 - cut]]
}

function padded(low, high, fromZero, numTicks) {
  const span = high - low || Math.abs(high) || 1
  const isNearZero = fromZero || low < 0.25 * span
  const bottom = low >= 0 && isNearZero ? 0 : low - 0.06 * span
  return linear(bottom, high + 0.06 * span, numTicks)
}

function linear(low, high, numTicks) {
  const step = roundStep((high - low) / numTicks)
  const ticks = []
  for (let n = Math.ceil(low / step - 1e-9); n * step <= high + 1e-9 * step; n++) {
    ticks.push(n * step)
  }
  return { low, high, ticks, place: (value) => (value - low) / (high - low) }
}

function logarithmic(low, high, numTicks) {
  const pad = Math.max(0.06 * Math.log10(high / low), 0.05)
  const [bottom, top] = [Math.log10(low) - pad, Math.log10(high) + pad]
  const place = (value) => (value > 0 ? (Math.log10(value) - bottom) / (top - bottom) : -1)
  const [least, most] = [10 ** bottom, 10 ** top]
  const ticks = logTicks(bottom, top, numTicks)
  // Within a fraction of a power of ten the round numbers are those of a linear axis.
  const enough = ticks.length > 1 ? ticks : linear(least, most, numTicks).ticks
  return { low: least, high: most, ticks: enough, place }
}

/** Powers of ten, and round numbers between them where few powers fit. */
function logTicks(bottom, top, numTicks) {
  const span = top - bottom
  const factors = span > numTicks / 2 ? [1] : span > 1 ? [1, 3] : [1, 2, 5]
  const every = Math.max(1, Math.ceil(span / numTicks))
  const ticks = []
  for (let power = Math.floor(bottom); power <= top; power++) {
    if (power % every !== 0) continue
    for (const factor of factors) {
      const tick = factor * 10 ** power
      if (Math.log10(tick) >= bottom && Math.log10(tick) <= top) ticks.push(tick)
    }
  }
  return ticks
}

/** The number of 1, 2 or 5 times a power of ten that is nearest to a step. */
export function roundStep(step) {
  const power = 10 ** Math.floor(Math.log10(step))
  const distance = (factor) => Math.abs(Math.log((factor * power) / step))
  return power * [1, 2, 5, 10].reduce((best, f) => (distance(f) < distance(best) ? f : best))
}

/**
 * A number to read, four digits at most.
 * @param {number} value
 * @returns {string}
 */
export function readable(value) {
  if (value === 0) return "0"
  const size = Math.abs(value)
  if (size >= 0.001 && size < 100000) return String(Number(value.toPrecision(3)))
  return value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e")
}
