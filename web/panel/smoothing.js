// The bias-corrected exponential moving average of trustopt/signals/smoothing.py.
// Source: Kingma and Ba 2015, "Adam", section 3.

/** Forget over 1/40 of the run. */
const DIVISIONS = 40

/**
 * Average each value with its past, recent values weighing most.
 * @param {(number | null)[]} values
 * @returns {(number | null)[]} null where there is no value
 */
export function smoothed(values) {
  const count = values.reduce((n, value) => n + (value === null ? 0 : 1), 0)
  const beta = 1 - 1 / Math.max(4, count / DIVISIONS)
  let average = 0
  let weight = 0
  return values.map((value) => {
    if (value === null) return null
    average = beta * average + (1 - beta) * value
    weight = beta * weight + (1 - beta)
    return average / weight
  })
}
