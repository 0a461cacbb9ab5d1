// What is said of a run in the list, and which runs a filter means.

import { app } from "../comfy.js"
import { readable } from "../panel/scales.js"
import { text } from "../texts.js"

/** @typedef {import("./browser.js").Run} Run */

const STATUSES = {
  training: "runTraining",
  finished: "runFinished",
  stopped: "runStopped",
  interrupted: "runInterrupted",
  faulty: "runFaulty",
  failed: "runFailed",
}

/** How a run stands, in a word. @param {Run} run */
export function statusOf(run) {
  return text(STATUSES[run.status] ?? "runUnknown")
}

/** "finished · step 300 / 300 · loss 0.138". @param {Run} run */
export function progressLine(run) {
  const parts = [statusOf(run)]
  if (run.step !== null) parts.push(text("runStep", { step: run.step, steps: run.steps ?? "?" }))
  if (run.loss !== null) parts.push(text("runLoss", { loss: readable(run.loss) }))
  return parts.join(" · ")
}

/** "SDXL · character · preset B · 20 images · autotrustgo · lora 32". @param {Run} run */
export function originLine(run) {
  const { family, purpose, preset, images, optimizer, algorithm, rank } = run
  return [
    family?.toUpperCase(),
    purpose,
    preset && text("runPreset", { preset }),
    images && text("runImages", { images }),
    optimizer,
    algorithm && `${algorithm} ${rank ?? ""}`.trim(),
  ]
    .filter(Boolean)
    .join(" · ")
}

/** When a run last took a step, in the user's language. @param {Run} run */
export function dateOf(run) {
  const language = app.extensionManager.setting.get("Comfy.Locale") ?? "en"
  const options = { dateStyle: "medium", timeStyle: "short" }
  return new Intl.DateTimeFormat(language, options).format(new Date(run.time * 1000))
}

/**
 * Whether every word of a filter is in what is said of a run.
 * @param {Run} run
 * @param {string} filter
 */
export function matches(run, filter) {
  const words = filter.toLowerCase().split(/\s+/).filter(Boolean)
  if (!words.length) return true
  const said = [run.run_id, statusOf(run), originLine(run), run.model ?? ""].join(" ").toLowerCase()
  return words.every((word) => said.includes(word))
}
