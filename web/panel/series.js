// Which series there are, which share axes, which are shown at first.
// The same decisions as trustopt/signals/panels.py makes for the plots, for a small chart.

import { text } from "../texts.js"
import { smoothed } from "./smoothing.js"

/** Series of bookkeeping; should_stop becomes a mark. */
const HIDDEN = /^(epoch|seconds|skipped|loss_bin\/.*|.*should_stop|.*num_skipped)$/

/** Signals within [-1, 1] by definition. */
const BOUNDED = new Set([
  "confidence", "confidence_rank", "confidence_stability", "danger", "trust", "mask", "mask_ema",
  "flip", "flip_ema", "threshold", "scalar", "drive", "damping", "shadow",
])

/** Signals that tell most at a glance. */
const TELLING = new Set([
  "confidence", "danger", "trust", "mask_ema", "flip_ema", "scalar", "drive",
])

/** A series that never reaches this would be a flat line on an axis from 0 to 1. */
const VISIBLE_SHARE = 0.05

/** Panes from top to bottom, each with the key of its title and its share of the height. */
export const PANES = {
  loss: { title: "lossPane", share: 3 },
  signals: { title: "signalsPane", share: 2 },
  lr: { title: "lrPane", share: 1 },
  norms: { title: "normsPane", share: 1 },
  other: { title: "otherPane", share: 1 },
}

/**
 * @typedef {object} Series
 * @property {string} key unique: the column's name, or "smoothed"
 * @property {string} label
 * @property {keyof typeof PANES} pane
 * @property {(number | null)[]} values one a row
 * @property {number} color index into the palette
 * @property {boolean} shown at first
 * @property {boolean} [faint] drawn thin, behind its average
 */

/**
 * The series of a run in drawing order.
 * @param {import("./run_data.js").RunData} run
 * @returns {Series[]}
 */
export function seriesOf(run) {
  const names = [...run.columns.keys()].filter((name) => !HIDDEN.test(name))
  names.sort((a, b) => Number(isTelling(b)) - Number(isTelling(a))) // they get the first colours
  const used = new Map()
  const series = names.map((name) => {
    const values = run.columns.get(name)
    const pane = paneOf(name, values)
    const color = used.get(pane) ?? 0
    used.set(pane, color + 1)
    return { key: name, label: labelOf(name), pane, values, color, shown: isTelling(name) }
  })
  const loss = series.find(({ key }) => key === "loss")
  if (loss) {
    loss.faint = true
    series.splice(series.indexOf(loss) + 1, 0, {
      ...loss, key: "smoothed", label: text("smoothed"), values: smoothed(loss.values), faint: false,
    })
  }
  const order = Object.keys(PANES)
  return series.sort((a, b) => order.indexOf(a.pane) - order.indexOf(b.pane))
}

/** The step at which the optimizer first said the loss has settled; null if it has not. */
export function shouldStopAt(run) {
  for (const [name, values] of run.columns) {
    if (!name.endsWith("should_stop")) continue
    const row = values.findIndex((value) => value === 1)
    if (row >= 0) return run.steps[row]
  }
  return null
}

function paneOf(name, values) {
  const short = name.replace(/^opt\//, "")
  if (/^(loss|loss_level_free|val\/.*)$/.test(name) || short.startsWith("ema_")) return "loss"
  if (short.includes("norm")) return "norms"
  if (/^lr([/_]|$)/.test(short)) return "lr"
  const largest = values.reduce((most, value) => Math.max(most, Math.abs(value ?? 0)), 0)
  const isBounded = largest <= 1 + 1e-6 && (BOUNDED.has(short) || largest >= VISIBLE_SHARE)
  return isBounded ? "signals" : "other"
}

function labelOf(name) {
  const known = {
    loss: text("loss"),
    "val/loss": text("validation"),
    loss_level_free: text("levelFree"),
  }
  return known[name] ?? name.replace(/^opt\//, "")
}

function isTelling(name) {
  return ["loss", "val/loss", "lr"].includes(name) || TELLING.has(name.replace(/^opt\//, ""))
}
