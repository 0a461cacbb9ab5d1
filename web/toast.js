// Short messages in the corner; newer frontends have another call for them than older ones.

import { app } from "./comfy.js"

const SECONDS = { success: 15, info: 10, warn: 20, error: 30 }

/**
 * Show a message.
 * @param {"success" | "info" | "warn" | "error"} severity
 * @param {string} summary the title
 * @param {string} detail
 */
export function toast(severity, summary, detail) {
  const toasts = app.extensionManager?.toast
  const life = SECONDS[severity] * 1000
  const show = toasts?.[severity === "warn" ? "warning" : severity]
  if (show) show.call(toasts, summary, { description: detail, detail, duration: life, life })
  else toasts?.add({ severity, summary, detail, life })
}
