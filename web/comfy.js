// The one place that says where ComfyUI's own modules are.
export { app } from "../../scripts/app.js"
export { api } from "../../scripts/api.js"

/**
 * Make a node that is in no graph yet.
 * @param {string} type
 * @returns {object | null} null if there is no such type
 */
export function createNode(type) {
  return globalThis.LiteGraph.createNode(type)
}
