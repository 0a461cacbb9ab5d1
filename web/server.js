// Asking the routes of this pack.

import { api } from "./comfy.js"

/**
 * Ask a route. What goes wrong, a server out of reach included, is an answer like any other.
 * @param {string} path below /trustopt/
 * @param {RequestInit} [options]
 * @returns {Promise<Record<string, any>>} the answer, or { problem: text }
 */
export async function ask(path, options) {
  try {
    const response = await api.fetchApi(`/trustopt/${path}`, options)
    const answer = await response.json()
    return response.ok ? answer : { problem: answer.error ?? response.statusText }
  } catch (error) {
    return { problem: String(error) }
  }
}

/**
 * Post to a route.
 * @param {string} path below /trustopt/
 * @param {object} [body]
 * @returns {Promise<Record<string, any>>} see ask
 */
export function post(path, body = {}) {
  const headers = { "Content-Type": "application/json" }
  return ask(path, { method: "POST", headers, body: JSON.stringify(body) })
}

/**
 * Where a run's routes are, for what the page fetches by itself.
 * @param {string} runId
 * @returns {string}
 */
export function runUrl(runId) {
  return api.apiURL(`/trustopt/runs/${encodeURIComponent(runId)}`)
}
