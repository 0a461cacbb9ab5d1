// Keys that an input method takes for itself.

/** Safari ends a word before it tells of the key that ended it. */
const IN_PROCESS = 229

/**
 * Whether a key belongs to an input method: Enter and Escape end a word there.
 * @param {KeyboardEvent} event
 * @returns {boolean}
 */
export function isComposing(event) {
  return event.isComposing || event.keyCode === IN_PROCESS
}
