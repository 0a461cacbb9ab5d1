// What the graph around a Preset node says: the question the server answers with a plan.

import { nodesOfType, originOf, sourceOf, widgetValue } from "../graph.js"

const FOLDER_NODE = "TrustOpt_LoadImageSet"
const TINY_NODE = "TrustOpt_TinyModel"
const TRAIN_NODE = "TrustOpt_TrainLora"

/** Widgets by which loaders name their file, whichever pack they come from. */
const FILE_WIDGETS = ["ckpt_name", "unet_name", "model_name"]

/** Widgets of the Adapter node that decide a LoRA's size. */
const ADAPTER_WIDGETS = ["algorithm", "rank", "alpha", "targets", "conv_rank", "train_text_encoders"]

/**
 * The node that reads the folder a Preset node plans for.
 * @param {object} preset
 * @returns {object | null} null if nothing, or pictures from elsewhere, are connected
 */
export function folderNode(preset) {
  const source = sourceOf(preset, "image_set")
  return source?.type === FOLDER_NODE ? source : null
}

/**
 * The parameters of GET /trustopt/plan for a Preset node.
 * @param {object} root the root graph
 * @param {object} preset
 * @param {Record<string, unknown>} overrides the values the user set
 * @returns {URLSearchParams | null} null if the graph names no folder
 */
export function planQuery(root, preset, overrides) {
  const images = folderNode(preset)
  const folder = widgetValue(images, "folder")
  if (!folder) return null
  const trainer = nodesOfType(root, TRAIN_NODE).find((t) => sourceOf(t, "plan") === preset)
  return parameters({
    folder,
    caption_extension: widgetValue(images, "caption_extension"),
    repeats: widgetValue(images, "repeats"),
    family: widgetValue(preset, "family"),
    purpose: widgetValue(preset, "purpose"),
    overrides,
    model: modelName(preset, trainer),
    ...(trainer ? trainerParameters(trainer) : {}),
  })
}

/** What the trainer adds: its optimizer, its adapter, the precision of the file. */
function trainerParameters(trainer) {
  const optimizer = sourceOf(trainer, "optimizer")
  const adapter = sourceOf(trainer, "adapter")
  const wishes = ADAPTER_WIDGETS.map((name) => [name, widgetValue(adapter, name)])
  return {
    optimizer: widgetValue(optimizer, "optimizer"),
    lr: widgetValue(optimizer, "optimizer.lr"),
    adapter: adapter ? Object.fromEntries(wishes) : undefined,
    save_dtype: widgetValue(trainer, "save_dtype"),
  }
}

/**
 * The file of the model. The preset itself tells the family by its own MODEL alone; where the
 * user chose the family, the trainer's model serves to estimate size and time.
 */
function modelName(preset, trainer) {
  const isChosen = widgetValue(preset, "family") !== "auto"
  const nodes = isChosen && trainer ? [preset, trainer] : [preset]
  for (const node of nodes) {
    const loader = originOf(node, "model", "MODEL")
    if (loader?.type === TINY_NODE) return `tiny-${widgetValue(loader, "family")}`
    const names = FILE_WIDGETS.map((name) => widgetValue(loader, name))
    const name = names.find((value) => typeof value === "string")
    if (name) return name
  }
  return undefined
}

function parameters(values) {
  const query = new URLSearchParams()
  for (const [name, value] of Object.entries(values)) {
    if (value === undefined || value === null || value === "") continue
    query.set(name, typeof value === "object" ? JSON.stringify(value) : String(value))
  }
  return query
}
