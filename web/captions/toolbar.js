// The caption editor's tools: which pictures are shown, and changes to many captions at once.

import { button, element, write } from "../panel/element.js"
import { text } from "../texts.js"
import { FILTERS } from "./caption_list.js"
import { addTags, prependTrigger, removeTags, replaceText } from "./edits.js"
import { isComposing } from "./keys.js"

/** The tools above the list. */
export class Toolbar {
  /**
   * @param {string} trigger the node's trigger word
   * @param {object} on what the user does: filtered(), selected(isOn), edited(edit)
   */
  constructor(trigger, on) {
    this.filter = this.#select(on)
    this.search = field("search", text("find"), text("findHint"))
    this.search.addEventListener("input", () => on.filtered())
    this.all = /** @type {HTMLInputElement} */ (element("input"))
    this.all.type = "checkbox"
    this.all.addEventListener("change", () => on.selected(this.all.checked))
    this.scope = element("span", "trustopt-scope")
    this.element = element("div", "trustopt-tools", [
      group(this.filter, this.search, element("label", "", [this.all, text("selectShown")])),
      ...this.#batches(trigger, on.edited),
      this.scope,
    ])
  }

  /** Whether batch actions can be used. */
  set disabled(value) {
    for (const control of this.element.querySelectorAll(".trustopt-batch button")) {
      control.disabled = value
    }
  }

  /**
   * Show how many pictures there are.
   * @param {{ shown: number, selected: number, selectedShown: number }} counts
   */
  update({ shown, selected, selectedShown }) {
    this.all.checked = shown > 0 && selectedShown === shown
    this.all.indeterminate = selectedShown > 0 && selectedShown < shown
    write(this.scope, selected ? text("forSelected", { selected }) : text("forShown", { shown }))
  }

  #select(on) {
    const select = /** @type {HTMLSelectElement} */ (element("select"))
    select.setAttribute("aria-label", text("filter"))
    for (const name of Object.keys(FILTERS)) {
      const option = /** @type {HTMLOptionElement} */ (element("option", "", [text(`${name}Filter`)]))
      option.value = name
      select.append(option)
    }
    select.addEventListener("change", () => on.filtered())
    return select
  }

  /** Batch actions, each with the fields it reads. */
  #batches(trigger, edited) {
    const tags = field("text", text("tags"), text("tagsHint"))
    const word = field("text", text("trigger"), text("triggerHint"))
    word.value = trigger
    const wanted = field("text", text("replaceThis"), text("replaceHint"))
    const other = field("text", text("replaceBy"), text("replaceHint"))
    const exact = /** @type {HTMLInputElement} */ (element("input"))
    exact.type = "checkbox"
    const replace = (caption) => replaceText(caption, wanted.value, other.value, exact.checked)
    return [
      batch(
        tags,
        button([text("add")], text("addHint"), () => edited((c) => addTags(c, tags.value))),
        button([text("remove")], text("removeHint"), () => edited((c) => removeTags(c, tags.value))),
      ),
      batch(
        word,
        button([text("prepend")], text("prependHint"), () =>
          edited((c) => prependTrigger(c, word.value)),
        ),
      ),
      batch(
        wanted,
        other,
        element("label", "", [exact, text("matchCase")]),
        button([text("replace")], text("replaceHint"), () => edited(replace)),
      ),
    ]
  }
}

function field(type, label, hint) {
  const input = /** @type {HTMLInputElement} */ (element("input"))
  Object.assign(input, { type, placeholder: label, title: hint, spellcheck: false })
  input.setAttribute("aria-label", label)
  return input
}

function group(...children) {
  return element("div", "trustopt-group", children)
}

/** Fields with their buttons; Enter in a field presses the first button. */
function batch(...children) {
  const made = group(...children)
  made.classList.add("trustopt-batch")
  made.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || isComposing(event) || event.target.tagName !== "INPUT") return
    event.preventDefault()
    made.querySelector("button").click()
  })
  return made
}
