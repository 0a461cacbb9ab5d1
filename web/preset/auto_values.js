// Widgets that are automatic until the user sets them.
//
// The Preset node has a state of its own for "auto": -1 in a number, "auto" in a list. The plan's
// value is only *shown* in such a widget: the saved workflow and the queued prompt still say auto,
// so a shared workflow computes its plan anew for another image set, and what a user typed is
// told from what was filled in by more than its value. A widget is the user's if it holds
// anything but auto or the value that was filled in; no second record of that can go stale.

import { chain, isLinked } from "../graph.js"

const MARK = " *"

/** The widgets of one Preset node. */
export class AutoValues {
  /** Names and values filled in. @type {Map<string, unknown>} */
  #filled = new Map()

  /**
   * @param {object} node
   * @param {string[]} excluded names of widgets that are always the user's
   * @param {() => void} onUser called when the user changed a value
   */
  constructor(node, excluded, onUser) {
    this.node = node
    this.widgets = node.widgets.filter((w) => w.name && !excluded.includes(w.name))
    for (const widget of this.widgets) this.#watch(widget, onUser)
  }

  /** The values the user set; what links decide is not known here. */
  get overrides() {
    const set = this.widgets.filter((w) => !this.isAuto(w) && !isLinked(this.node, w.name))
    return Object.fromEntries(set.map((widget) => [widget.name, widget.value]))
  }

  /** Whether a widget shows auto, or what was filled in. */
  isAuto(widget) {
    if (widget.value === autoOf(widget)) return true
    return this.#filled.has(widget.name) && this.#filled.get(widget.name) === widget.value
  }

  /**
   * Show a plan's values in the widgets that are automatic.
   * @param {Record<string, unknown>} values by widget name; a missing one shows auto
   */
  fill(values) {
    for (const widget of this.widgets) {
      if (!this.isAuto(widget) || isLinked(this.node, widget.name)) continue
      const value = values[widget.name] ?? autoOf(widget)
      this.#filled.set(widget.name, value)
      widget.value = value
    }
    this.#markAll()
  }

  /**
   * Make values the user's, and all others automatic.
   * @param {Record<string, unknown>} values by widget name
   */
  set(values) {
    this.#filled.clear()
    for (const widget of this.widgets) widget.value = values[widget.name] ?? autoOf(widget)
    this.#markAll()
  }

  /** Forget what was filled in: the values shown are the user's, or just loaded. */
  keepShown() {
    this.#filled.clear()
    this.#markAll()
  }

  /** Write auto into a saved node for every widget that is automatic. */
  serialize(saved) {
    this.node.widgets.forEach((widget, index) => {
      if (!this.widgets.includes(widget) || !this.isAuto(widget)) return
      if (saved.widgets_values) saved.widgets_values[index] = autoOf(widget)
      if (saved.widgets_values_named) saved.widgets_values_named[widget.name] = autoOf(widget)
    })
  }

  #watch(widget, onUser) {
    chain(widget, "callback", () => {
      // Once changed it is the user's, also if it comes back to what had been filled in.
      if (!this.isAuto(widget)) this.#filled.delete(widget.name)
      this.#markAll()
      onUser()
    })
    widget.serializeValue = () => (this.isAuto(widget) ? autoOf(widget) : widget.value)
  }

  /** Mark the user's values by the asterisk that the plan's summary and the toast use. */
  #markAll() {
    for (const widget of this.widgets) {
      const label = widget.label ?? widget.name
      const plain = label.endsWith(MARK) ? label.slice(0, -MARK.length) : label
      const marked = this.isAuto(widget) ? plain : plain + MARK
      if (marked !== label) widget.label = marked
    }
    this.node.setDirtyCanvas(true, true)
  }
}

/** What stands for "automatic" in a widget: lists hold texts, the others are numbers. */
function autoOf(widget) {
  return typeof widget.value === "string" ? "auto" : -1
}
