// One picture in the caption editor: thumbnail, facts, and the box its caption is written in.

import { api } from "../comfy.js"
import { button, element, write } from "../panel/element.js"
import { text } from "../texts.js"
import { isChanged, isEnlarged, oneLine } from "./caption_list.js"
import { isComposing } from "./keys.js"

/** The view of one picture. */
export class Row {
  /**
   * @param {import("./caption_list.js").Picture} picture
   * @param {string} folder
   * @param {object} on what the user does: typed(row, text), left(row), moved(row, by),
   *   picked(row, event), restored(row, text)
   */
  constructor(picture, folder, on) {
    this.picture = picture
    this.badges = element("span", "trustopt-badges")
    this.problem = element("div", "trustopt-problem")
    this.problem.setAttribute("role", "alert")
    this.box = this.#makeBox(on)
    this.check = this.#makeCheck(on)
    this.buttons = {
      caption: button([text("asSaved")], text("asSavedHint"), () => on.restored(this, picture.caption)),
      original: button([text("original")], "", () => on.restored(this, picture.original)),
    }
    const facts = [element("b", "", [picture.name]), sizes(picture), this.badges]
    this.element = element("div", "trustopt-caption", [
      element("label", "trustopt-pick", [this.check, thumbnail(picture, folder)]),
      element("div", "trustopt-text", [
        element("div", "trustopt-facts", [...facts, ...Object.values(this.buttons)]),
        this.box,
        this.problem,
      ]),
    ])
    this.update()
  }

  /** Show what the picture is now. */
  update() {
    const { picture } = this
    if (this.box.value !== picture.text) this.box.value = picture.text
    this.element.classList.toggle("trustopt-changed", isChanged(picture))
    this.badges.replaceChildren(...badgesOf(picture).map(([name, label]) => badge(name, label)))
    this.buttons.caption.hidden = !isChanged(picture)
    const { original } = picture
    const isOther = original !== null && original !== oneLine(picture.text)
    this.buttons.original.hidden = !isOther || original === picture.caption
    this.buttons.original.title = original || text("noCaption")
    write(this.problem, picture.problem)
  }

  /** Show whether the picture is selected. */
  set isSelected(value) {
    this.check.checked = value
  }

  #makeBox(on) {
    const box = /** @type {HTMLTextAreaElement} */ (element("textarea"))
    box.rows = 2
    box.spellcheck = false
    box.setAttribute("aria-label", text("captionOf", { name: this.picture.name }))
    box.addEventListener("input", () => on.typed(this, box.value))
    box.addEventListener("blur", () => on.left(this))
    box.addEventListener("keydown", (event) => {
      // A caption is one line, so Enter goes on; in an input method it ends a word.
      if (event.key !== "Enter" || isComposing(event) || event.ctrlKey || event.metaKey) return
      event.preventDefault()
      on.moved(this, event.shiftKey ? -1 : 1)
    })
    return box
  }

  #makeCheck(on) {
    const check = /** @type {HTMLInputElement} */ (element("input"))
    check.type = "checkbox"
    check.setAttribute("aria-label", text("select", { name: this.picture.name }))
    check.addEventListener("click", (event) => on.picked(this, event))
    return check
  }
}

function thumbnail({ name, file, version }, folder) {
  const image = /** @type {HTMLImageElement} */ (element("img"))
  const address = new URLSearchParams({ folder, file, version })
  image.loading = "lazy"
  image.decoding = "async"
  image.alt = name
  image.src = api.apiURL(`/trustopt/captions/thumbnail?${address}`)
  return image
}

/** "1024×1536 → 832×1216" */
function sizes({ width, height, bucket }) {
  return `${width}×${height} → ${bucket[0]}×${bucket[1]}`
}

/** What is to be said of a picture: class name and text each. */
function badgesOf(picture) {
  const badges = []
  if (!oneLine(picture.text)) badges.push(["warn", text("noCaption")])
  if (picture.same_as) badges.push(["warn", text("sameAs", { name: picture.same_as })])
  if (isEnlarged(picture)) {
    badges.push(["warn", text("enlarged", { factor: picture.scale.toFixed(1) })])
  }
  if (picture.caption && !picture.caption_file) badges.push(["note", text("noFileYet")])
  if (isChanged(picture)) badges.push(["changed", text("notSaved")])
  return badges
}

function badge(name, label) {
  return element("span", `trustopt-badge trustopt-${name}`, [label])
}
