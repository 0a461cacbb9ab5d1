// What the user chose for each image set, kept in ComfyUI's settings of this user.

import { app } from "../comfy.js"

export const SETTING = {
  id: "TrustOpt.ImageSets",
  name: "Choices for each image set",
  type: "hidden",
  defaultValue: {},
}

const MOST = 200

/**
 * @typedef {object} Choices
 * @property {string} family
 * @property {string} purpose
 * @property {Record<string, unknown>} values the values the user set
 * @property {string} [trigger] the trigger word
 */

/**
 * What the user chose for a folder.
 * @param {string} folder
 * @returns {Choices | null}
 */
export function recall(folder) {
  return app.extensionManager.setting.get(SETTING.id)?.[folder] ?? null
}

/**
 * Keep what the user chose for a folder, as the newest; the oldest beyond a limit are dropped.
 * @param {string} folder
 * @param {Partial<Choices>} choices replaces those of the same name
 */
export function remember(folder, choices) {
  const all = { ...app.extensionManager.setting.get(SETTING.id) }
  const known = all[folder] ?? {}
  delete all[folder]
  all[folder] = { ...known, ...choices }
  const newest = Object.entries(all).slice(-MOST)
  void app.extensionManager.setting.set(SETTING.id, Object.fromEntries(newest))
}
