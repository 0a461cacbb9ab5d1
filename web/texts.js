// What the extension says. Other languages: "trustopt" in locales/<language>/main.json.

import { api, app } from "./comfy.js"

const ENGLISH = {
  autoAdjust: "Auto-Adjust Parameters",
  presetApplied: "Training preset",
  noPreset: "No preset",
  countUnknown:
    "How many pictures there are is known once the graph runs: the values stay automatic.",
  noImageSet: "Connect an image set to the preset first.",
  allAuto: "TrustOpt: return all values to auto",
  keepShown: "TrustOpt: keep the values shown",
  stop: "Stop and keep",
  stopHint: "End after this step and keep the LoRA as a result",
  save: "Save now",
  saveHint: "Write the LoRA as it is now, and go on",
  sample: "Sample now",
  sampleHint: "Make the sample pictures now, and go on",
  logScale: "log",
  logScaleHint: "Logarithmic axis for the loss",
  more: "+ {number}",
  less: "fewer",
  moreHint: "Series that are not drawn",
  idle: "The chart appears when training starts.",
  step: "step {step} / {steps}",
  perStep: "{time} s/step",
  left: "{time} left",
  memory: "{used} / {total} GiB",
  stopping: "stopping after this step",
  saving: "saving after this step",
  sampling: "sampling after this step",
  finished: "Training finished",
  stopped: "Training stopped, LoRA kept",
  interrupted: "Training interrupted",
  faulty: "The LoRA file is faulty",
  failed: "Training failed",
  unknown: "Training broke off",
  saved: "LoRA saved",
  atStep: "{lora}: step {step} of {steps}",
  resumeHint: "What was trained is saved: queue again with resume on to go on.",
  loss: "loss",
  smoothed: "loss, smoothed",
  validation: "validation",
  levelFree: "loss, noise levels divided out",
  lossPane: "Loss",
  signalsPane: "Optimizer signals",
  lrPane: "Learning rate",
  normsPane: "Norms",
  otherPane: "Other signals",
  steps: "step",
}

let translated = {}
let loading = null

/** Fetch the texts of the user's language, once; until then, and where one is missing, English. */
export function loadTexts() {
  loading ??= api.getCustomNodesI18n().then((all) => {
    const language = app.extensionManager?.setting?.get("Comfy.Locale") ?? "en"
    translated = all?.[language]?.trustopt ?? {}
  })
  return loading
}

/**
 * A text in the user's language.
 * @param {keyof typeof ENGLISH} key
 * @param {Record<string, string | number>} [values] for the names in braces
 * @returns {string}
 */
export function text(key, values = {}) {
  const template = translated[key] ?? ENGLISH[key]
  return template.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""))
}
