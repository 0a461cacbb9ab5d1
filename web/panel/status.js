// Where a run stands, in one line.

import { text } from "../texts.js"

const GIB = 2 ** 30

/** The engine's names of what it does before the first step, and the texts for them. */
const STAGES = { "encoding images": "encodingImages", "encoding captions": "encodingCaptions" }

/**
 * "encoding images 3 / 20".
 * @param {object} event of the server, before the first step
 * @returns {string}
 */
export function stageLine({ stage, done, total }) {
  const name = stage in STAGES ? text(STAGES[stage]) : stage
  return `${name} ${done} / ${total}`
}

/**
 * "step 320 / 2000 · 1.4 s/step · 39 min left · 7.2 / 24.0 GiB".
 * @param {object} state an event of the server, or a run's history
 * @param {string} wish what the run was asked for and has not done yet
 * @returns {string}
 */
export function statusLine(state, wish = "") {
  const { status, step, steps, seconds_per_step: seconds, eta, memory, lora } = state
  const parts = [text("step", { step, steps: steps ?? "?" })]
  if (status !== "training") return [text(status), ...parts, lora].filter(Boolean).join(" · ")
  if (seconds) parts.push(text("perStep", { time: Number(seconds.toPrecision(3)) }))
  if (eta !== null && eta !== undefined) parts.push(text("left", { time: duration(eta) }))
  if (memory) {
    const [used, total] = [memory.used, memory.total].map((bytes) => (bytes / GIB).toFixed(1))
    parts.push(text("memory", { used, total }))
  }
  if (state.sampling) parts.push(text("samplingNow", { done: state.sampling }))
  else if (wish) parts.push(wish)
  return parts.join(" · ")
}

/**
 * A time span to read: "1 h 23 min", "39 min", "3 min 20 s", "45 s".
 * @param {number} seconds
 * @returns {string}
 */
export function duration(seconds) {
  const rounded = Math.round(seconds)
  const [minutes, rest] = [Math.floor(rounded / 60), rounded % 60]
  if (minutes >= 60) return text("hours", { hours: Math.floor(minutes / 60), minutes: minutes % 60 })
  if (minutes >= 10) return text("minutes", { minutes })
  return minutes ? text("minutesSeconds", { minutes, seconds: rest }) : text("seconds", { seconds: rest })
}
