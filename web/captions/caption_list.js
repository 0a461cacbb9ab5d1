// The captions being edited: what is saved, what was typed, what is selected, and steps back.

/**
 * @typedef {object} Picture
 * @property {string} name see nodes/captions.py
 * @property {string} file
 * @property {string} version
 * @property {number} width
 * @property {number} height
 * @property {[number, number]} bucket
 * @property {number} scale enlargement into the bucket
 * @property {string} caption as saved
 * @property {string | null} caption_file null if the caption is no file's
 * @property {string | null} original the first caption of its file, if it was edited
 * @property {string | null} same_as a picture of the same content
 * @property {string} text as typed
 * @property {string} problem why it could not be saved
 */

/** Rules by which a list of pictures is narrowed down, besides a text looked for. */
export const FILTERS = {
  all: () => true,
  missing: (picture) => !oneLine(picture.text),
  duplicates: (picture) => picture.same_as !== null,
  enlarged: (picture) => isEnlarged(picture),
  changed: (picture) => isChanged(picture),
}

const MOST_STEPS = 200

/** The captions of one folder. */
export class CaptionList {
  /** @type {Set<Picture>} */
  selected = new Set()
  /** Texts before each change, newest last. @type {Map<Picture, string>[]} */
  #steps = []
  /** The picture whose text is being typed: its keystrokes are one step. */
  #typing = null

  /** @param {object[]} pictures of the server's answer */
  constructor(pictures) {
    /** @type {Picture[]} */
    this.pictures = pictures.map((entry) => ({ ...entry, text: entry.caption, problem: "" }))
  }

  /** Pictures whose text is not the saved caption. */
  get changed() {
    return this.pictures.filter(isChanged)
  }

  /** Whether there is a step to take back. */
  get canUndo() {
    return this.#steps.length > 0
  }

  /** Pictures that pass a filter and whose caption or name holds a text. */
  shown(filter, wanted) {
    const text = wanted.trim().toLowerCase()
    return this.pictures.filter(
      (picture) =>
        FILTERS[filter](picture) &&
        (!text || `${picture.text}\n${picture.name}`.toLowerCase().includes(text)),
    )
  }

  /** What a batch action is for: the selected ones, or else all that are shown. */
  targets(shown) {
    return this.selected.size ? this.pictures.filter((p) => this.selected.has(p)) : shown
  }

  /** Note what the user typed. */
  type(picture, text) {
    if (this.#typing !== picture) this.#remember(new Map([[picture, picture.text]]))
    this.#typing = picture
    picture.text = text
  }

  /** The user left a text box: the next keystroke begins a new step. */
  endTyping() {
    this.#typing = null
  }

  /**
   * Change captions as one step.
   * @param {Picture[]} pictures
   * @param {(picture: Picture) => string} edit gives the new text
   * @returns {Picture[]} those that changed
   */
  edit(pictures, edit) {
    this.#typing = null
    const before = new Map()
    for (const picture of pictures) {
      const text = edit(picture)
      if (text === picture.text) continue
      before.set(picture, picture.text)
      picture.text = text
    }
    if (before.size) this.#remember(before)
    return [...before.keys()]
  }

  /** Take the last step back. @returns {Picture[]} those it had changed */
  undo() {
    this.#typing = null
    const before = this.#steps.pop() ?? new Map()
    for (const [picture, text] of before) picture.text = text
    return [...before.keys()]
  }

  /**
   * Note what became of the captions sent to the server.
   * @param {{ saved: Record<string, object>, problems: Record<string, object> }} answer
   */
  noteSaved({ saved, problems }) {
    for (const picture of this.pictures) {
      const done = saved[picture.name]
      const problem = problems[picture.name]
      if (done) {
        // The user may have typed on while the answer was on its way.
        if (oneLine(picture.text) === done.caption) picture.text = done.caption
        picture.original ??= picture.caption === done.caption ? null : picture.caption
        picture.caption = done.caption
        picture.caption_file = done.file
        picture.problem = ""
      } else if (problem) {
        picture.problem = problem.text
        picture.caption = problem.caption ?? picture.caption
      }
    }
  }

  #remember(before) {
    this.#steps.push(before)
    if (this.#steps.length > MOST_STEPS) this.#steps.shift()
  }
}

/** Whether a picture's text is to be saved. */
export function isChanged(picture) {
  return oneLine(picture.text) !== picture.caption
}

/** Whether a picture is smaller than its bucket. */
export function isEnlarged(picture) {
  return picture.scale > 1.005
}

/** A text as it is saved. */
export function oneLine(text) {
  return text.trim().split(/\s+/).join(" ")
}
