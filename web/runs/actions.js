// What can be done with a run: its LoRA or its plot in the graph, its workflow again, going on.

import { app, createNode } from "../comfy.js"
import { isLinked, nodeById, nodesOfType } from "../graph.js"
import { ask } from "../server.js"
import { text } from "../texts.js"
import { toast } from "../toast.js"

const LOADER = { type: "LoraLoaderModelOnly", widget: "lora_name" }
const PLOT = { type: "TrustOpt_SignalPreview", widget: "saved_runs" }
const TRAINER = "TrustOpt_TrainLora"

/** Pixels between nodes that would lie on each other. */
const SHIFT = 30

/** @typedef {import("./browser.js").Run} Run */

/** Add ComfyUI's own loader with a run's LoRA to the graph. @param {Run} run */
export async function loadLora(run) {
  await addNode(LOADER.type, LOADER.widget, run.lora)
}

/** Add a Training Signals node that draws a run. @param {Run} run */
export async function plot(run) {
  await addNode(PLOT.type, PLOT.widget, run.run_id)
}

/**
 * Open the workflow that trained a run.
 * @param {Run} run
 * @returns {Promise<boolean>} whether there is one
 */
export async function recreate(run) {
  const path = `runs/${encodeURIComponent(run.run_id)}/workflow`
  const { workflow, problem } = await ask(path)
  if (problem) toast("warn", text("runRecreate"), problem)
  else await app.loadGraphData(workflow, true, true, run.run_id)
  return !problem
}

/**
 * Set up a run's Train LoRA node to go on with it; its workflow is opened first if it is not.
 * @param {Run} run
 */
export async function resume(run) {
  let trainer = run.workflow === root().id ? trainerOf(run) : null
  if (!trainer && (await recreate(run))) trainer = trainerOf(run)
  if (!trainer) {
    toast("warn", text("runResume"), text("runNoTrainer"))
    return
  }
  setWidget(trainer, "name", run.run_id)
  setWidget(trainer, "resume", true)
  show(trainer)
  if (isLinked(trainer, "name") || isLinked(trainer, "resume")) {
    toast("warn", text("runResume"), text("runLinked", { run: run.run_id }))
    return
  }
  const isComplete = run.steps !== null && run.step >= run.steps
  const detail = text(isComplete ? "runReadyMore" : "resumeHere", { step: run.step })
  toast(isComplete ? "warn" : "info", text("runReady", { run: run.run_id }), detail)
}

const root = () => app.rootGraph ?? app.graph

/** The node of the open workflow that trained a run; the only trainer, if its id is not known. */
function trainerOf(run) {
  const node = run.node ? nodeById(root(), run.node) : null
  if (node?.type === TRAINER) return node
  const trainers = nodesOfType(root(), TRAINER)
  return trainers.length === 1 ? trainers[0] : null
}

/** Add a node with one value to the graph that is open, in the middle of the view. */
async function addNode(type, widgetName, value) {
  const node = createNode(type)
  const graph = app.canvas.graph ?? root()
  node.pos = freePlace(graph, node)
  graph.beforeChange()
  graph.add(node)
  graph.afterChange()
  const widget = node.widgets.find(({ name }) => name === widgetName)
  const { values } = widget.options
  const listed = typeof values === "function" ? values() : values
  // A file that came after the page was loaded is not in its lists yet.
  if (Array.isArray(listed) && !listed.includes(value)) await app.refreshComboInNodes()
  setWidget(node, widgetName, value)
  app.canvas.selectNode(node)
  app.canvas.setDirty(true, true)
  toast("success", text("runAdded", { node: node.title }), String(value))
}

/** A place in the middle of the view that no node begins at. */
function freePlace(graph, node) {
  const [left, top, width, height] = app.canvas.ds.visible_area
  const sharpness = Math.max(globalThis.devicePixelRatio, 1)
  let x = left + width / sharpness / 2 - node.size[0] / 2
  let y = top + height / sharpness / 2 - node.size[1] / 2
  const isTaken = ({ pos }) => Math.abs(pos[0] - x) < SHIFT / 2 && Math.abs(pos[1] - y) < SHIFT / 2
  while (graph.nodes.some(isTaken)) {
    x += SHIFT
    y += SHIFT
  }
  return [x, y]
}

function setWidget(node, name, value) {
  const widget = node.widgets.find((candidate) => candidate.name === name)
  widget.value = value
  widget.callback?.(value, app.canvas, node)
}

/** Bring a node into view, wherever it is. */
function show(node) {
  if (app.canvas.graph !== node.graph) app.canvas.setGraph(node.graph)
  app.canvas.selectNode(node)
  app.canvas.centerOnNode(node)
  app.canvas.setDirty(true, true)
}
