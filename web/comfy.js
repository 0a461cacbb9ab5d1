// The one place that says where ComfyUI's own modules are.
export { app } from "../../scripts/app.js"
export { api } from "../../scripts/api.js"
