// Finding nodes: what feeds an input, which nodes there are, which one the server means.

const BYPASSED = 4
const MUTED = 2

/** Node id that LiteGraph gives the inputs of a subgraph, seen from inside. */
const SUBGRAPH_INPUTS = "-10"

/**
 * Every node of a workflow, those inside subgraphs once for each definition.
 * @param {object} root the root graph
 * @returns {Generator<object>}
 */
export function* allNodes(root) {
  yield* root.nodes
  for (const subgraph of root.subgraphs?.values() ?? []) yield* subgraph.nodes
}

/**
 * The nodes of one type.
 * @param {object} root
 * @param {string} type
 * @returns {object[]}
 */
export function nodesOfType(root, type) {
  return [...allNodes(root)].filter((node) => node.type === type)
}

/**
 * The node an id of the server means: "5", or "2:1" for node 1 of the subgraph that node 2 is.
 * @param {object} root
 * @param {string} executionId
 * @returns {object | null}
 */
export function nodeById(root, executionId) {
  let graph = root
  let node = null
  for (const id of String(executionId).split(":")) {
    node = graph?.getNodeById(id) ?? null
    graph = node?.subgraph
  }
  return node
}

/**
 * The node whose output reaches an input: through reroutes, bypassed nodes, subgraph borders.
 * @param {object} node
 * @param {string} inputName
 * @returns {object | null} null if nothing is connected, or what is connected is muted
 */
export function sourceOf(node, inputName) {
  const slot = (node.inputs ?? []).findIndex((input) => input.name === inputName)
  return slot < 0 ? null : sourceOfSlot(node, slot, new Set())
}

/**
 * The node at the upstream end of a chain of inputs of one type: of MODEL, the loader.
 * @param {object} node
 * @param {string} inputName
 * @param {string} type
 * @returns {object | null}
 */
export function originOf(node, inputName, type) {
  const visited = new Set()
  let source = sourceOf(node, inputName)
  while (source && !visited.has(source)) {
    visited.add(source)
    const next = (source.inputs ?? []).find((input) => input.type === type && input.link != null)
    if (!next) return source
    source = sourceOf(source, next.name)
  }
  return source
}

/**
 * What a widget will be when the graph runs.
 * @param {object | null} node
 * @param {string} name
 * @returns {unknown} undefined if there is no such widget, or a link decides
 */
export function widgetValue(node, name) {
  const widget = node?.widgets?.find((candidate) => candidate.name === name)
  return widget && !isLinked(node, name) ? widget.value : undefined
}

/**
 * Whether a widget takes its value from a link.
 * @param {object} node
 * @param {string} name
 * @returns {boolean}
 */
export function isLinked(node, name) {
  return (node.inputs ?? []).some((input) => input.widget?.name === name && input.link != null)
}

/**
 * Let something happen after a callback of a node or widget, whoever set it before.
 * @param {object} target
 * @param {string} name
 * @param {(...given: unknown[]) => void} then
 */
export function chain(target, name, then) {
  const before = target[name]
  target[name] = function (...given) {
    const result = before?.apply(this, given)
    then(...given)
    return result
  }
}

function sourceOfSlot(node, slot, visited) {
  const link = node.graph?.getLink(node.inputs[slot]?.link)
  return link ? follow(node.graph, link, visited) : null
}

function follow(graph, link, visited) {
  const place = `${graph.id}/${link.id}`
  if (visited.has(place)) return null
  visited.add(place)
  if (String(link.origin_id) === SUBGRAPH_INPUTS) {
    const host = hostOf(graph)
    return host ? sourceOfSlot(host, link.origin_slot, visited) : null
  }
  const node = graph.getNodeById(link.origin_id)
  if (!node || node.mode === MUTED) return null
  if (node.mode === BYPASSED || node.type === "Reroute") {
    const slot = passingSlot(node, link.origin_slot)
    return slot < 0 ? null : sourceOfSlot(node, slot, visited)
  }
  return node.subgraph ? sourceInside(node.subgraph, link.origin_slot, visited) : node
}

function sourceInside(subgraph, outputSlot, visited) {
  const link = subgraph.getLink(subgraph.outputs[outputSlot]?.linkIds?.[0])
  return link ? follow(subgraph, link, visited) : null
}

/** The input that a bypassed node or a reroute passes on to an output. */
function passingSlot(node, outputSlot) {
  const type = node.outputs[outputSlot]?.type
  const connected = node.inputs.findIndex((input) => input.link != null && input.type === type)
  return connected >= 0 ? connected : node.inputs.findIndex((input) => input.link != null)
}

/** A node that stands for a subgraph; where several do, the first. */
function hostOf(subgraph) {
  for (const node of allNodes(subgraph.rootGraph)) if (node.subgraph === subgraph) return node
  return null
}
