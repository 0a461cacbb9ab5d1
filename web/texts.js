// What the extension says. Other languages: "trustopt" in locales/<language>/main.json.
// After a change of language ComfyUI loads the workflow anew, and all texts are asked for again.

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
  editCaptions: "Edit captions",
  folderLinked: "The folder comes from a link: choose it on the node to edit its captions.",
  captionsOf: "Captions of {folder}",
  captionOf: "Caption of {name}",
  counts:
    "{all} pictures · without a caption: {missing} · duplicates: {duplicates} · not saved: {changed}",
  buckets: "Buckets as the preset plans them, at {resolution} px.",
  usualBuckets: "Buckets at {resolution} px: no preset tells another resolution.",
  loading: "Reading the folder…",
  filter: "Pictures shown",
  allFilter: "all pictures",
  missingFilter: "without a caption",
  duplicatesFilter: "duplicates",
  enlargedFilter: "enlarged",
  changedFilter: "not saved",
  find: "Find in captions",
  findHint: "Shows the pictures whose caption or name has this text (Ctrl+F)",
  select: "Select {name}",
  selectShown: "select all shown",
  forShown: "Changes are for all pictures shown: {shown}.",
  forSelected: "Changes are for the selected pictures: {selected}.",
  tags: "Tags",
  tagsHint: "One tag, or several with commas",
  add: "Add",
  addHint: "Put the tags at the end of captions that lack them",
  remove: "Remove",
  removeHint: "Take the tags out of captions that have them",
  trigger: "Trigger word",
  triggerHint: "Training adds it by itself: put it into the captions only if you want it in the files",
  prepend: "Put in front",
  prependHint: "Begin captions that lack it with the trigger word",
  replaceThis: "Find",
  replaceBy: "Replace by",
  replaceHint: "Replace a text wherever it stands",
  replace: "Replace",
  matchCase: "match case",
  edited: "Captions changed: {changed} of {all}",
  undo: "Undo",
  undoHint: "Take the last change back",
  undone: "Captions as before: {changed}",
  saveCaptions: "Save",
  saveCaptionsHint: "Write the changed captions beside their pictures (Ctrl+S)",
  savingCaptions: "Saving…",
  savedCaptions: "Captions saved: {saved}",
  someNotSaved: "Captions not saved: {failed}. The first:",
  nothingSaved: "Nothing is saved, what you typed is kept:",
  unsaved: "Captions not saved yet: {changed}",
  saveAndClose: "Save and close",
  discard: "Discard",
  goOn: "Go on editing",
  close: "Close",
  asSaved: "as saved",
  asSavedHint: "Return to the caption that is saved",
  original: "original",
  noCaption: "no caption",
  sameAs: "same picture as {name}",
  enlarged: "enlarged ×{factor}",
  noFileYet: "from metadata or folder name",
  notSaved: "not saved",
  skipped: "Files not shown: {number}",
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
  encodingImages: "encoding images",
  encodingCaptions: "encoding captions",
  step: "step {step} / {steps}",
  perStep: "{time} s/step",
  left: "{time} left",
  hours: "{hours} h {minutes} min",
  minutes: "{minutes} min",
  minutesSeconds: "{minutes} min {seconds} s",
  seconds: "{seconds} s",
  memory: "{used} / {total} GiB",
  stopping: "stopping after this step",
  saving: "saving after this step",
  sampling: "sampling after this step",
  samplingNow: "making samples {done}",
  samplesAt: "samples, step {step}",
  earlierSamples: "Samples of an earlier step",
  laterSamples: "Samples of a later step",
  samplesGrid: "all",
  samplesGridHint: "Open the grid of all steps",
  samplesFailed: "Sample pictures failed",
  samplesFailedAt: "step {step}: {problem}. Training goes on.",
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
  runs: "Training runs",
  runsHint: "Training runs: signals, LoRAs, workflows",
  runsRefresh: "Refresh",
  runsFilter: "Filter: name, status, optimizer, purpose …",
  runsNone: "No runs yet. A run appears here when a Train LoRA node starts.",
  runsNoMatch: "No run matches the filter.",
  runsMore: "Show more",
  runTraining: "training",
  runFinished: "finished",
  runStopped: "stopped",
  runInterrupted: "interrupted",
  runFaulty: "LoRA file faulty",
  runFailed: "failed",
  runUnknown: "broke off",
  runStep: "step {step} / {steps}",
  runLoss: "loss {loss}",
  runPreset: "preset {preset}",
  runImages: "{images} images",
  runLoad: "Load LoRA",
  runLoadHint: "Add a Load LoRA node with this file to the graph",
  runPlot: "Plot",
  runPlotHint: "Add a Training Signals node with this run to the graph",
  runResume: "Resume",
  runResumeHint: "Set up Train LoRA to go on with this run",
  runRecreate: "Workflow",
  runRecreateHint: "Open the workflow that trained it",
  runNoLora: "Its LoRA is no longer in output/loras",
  runHidden: "Another file of this name in the loras folders comes first: rename one of them",
  runNoWorkflow: "Neither the run nor its LoRA holds a workflow",
  runNoState: "It has no saved state to go on from",
  runResumesOther: "Resuming by this name goes on with {run}: resume that one",
  runIsTraining: "It is training now",
  runNoTrainer: "Its workflow has no Train LoRA node that could be meant",
  runLinked: "name or resume comes from a link: set {run} and resume there",
  runReady: "Ready to resume {run}: press Run",
  resumeHere: "Training goes on after step {step}.",
  runReadyMore: "It has taken all its steps: raise the preset's steps, then press Run",
  runAdded: "{node} added",
}

/** What ComfyUI serves of every pack's locales, by language. */
let translations = {}
let loading = null

/** The user's language, by ComfyUI's name for it. @returns {string} such as "ja" */
export function language() {
  return app.extensionManager?.setting?.get("Comfy.Locale") ?? "en"
}

/** Fetch the translations, once; until then, and where a text is missing, English. */
export function loadTexts() {
  loading ??= api.getCustomNodesI18n().then((all) => {
    translations = all ?? {}
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
  const template = translations[language()]?.trustopt?.[key] ?? ENGLISH[key]
  return template.replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ""))
}

/**
 * The tooltip of a node's input in the user's language.
 * @param {string} nodeId
 * @param {string} key of the input in locales/<language>/nodeDefs.json
 * @returns {string | undefined} undefined if there is none
 */
export function inputTooltip(nodeId, key) {
  return translations[language()]?.nodeDefs?.[nodeId]?.inputs?.[key]?.tooltip
}
