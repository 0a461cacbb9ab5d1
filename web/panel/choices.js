// Which series a user wants to see, kept in ComfyUI's settings for every chart alike.

import { app } from "../comfy.js"

export const SETTING = {
  id: "TrustOpt.Chart",
  name: "Series and scale of the live chart",
  type: "hidden",
  defaultValue: { shown: {}, log: false },
}

/** Series on and off, log scale. */
export class Choices {
  #kept = { shown: {}, log: false, ...app.extensionManager.setting.get(SETTING.id) }

  /** Whether the loss has a logarithmic axis. */
  get log() {
    return this.#kept.log
  }

  /** Whether a series is drawn. @param {import("./series.js").Series} series */
  isShown(series) {
    return this.#kept.shown[series.key] ?? series.shown
  }

  /** @param {import("./series.js").Series} series */
  toggle(series) {
    this.#kept = {
      ...this.#kept,
      shown: { ...this.#kept.shown, [series.key]: !this.isShown(series) },
    }
    this.#keep()
  }

  toggleLog() {
    this.#kept = { ...this.#kept, log: !this.#kept.log }
    this.#keep()
  }

  #keep() {
    void app.extensionManager.setting.set(SETTING.id, this.#kept)
  }
}
