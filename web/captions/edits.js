// What batch actions do to one caption. Tags are what stands between commas, as when training.

/**
 * The tags of a caption.
 * @param {string} caption
 * @returns {string[]}
 */
export function tagsOf(caption) {
  return caption
    .split(",")
    .map((tag) => tag.trim())
    .filter(Boolean)
}

/**
 * A caption with some tags at its end, those it has already left out.
 * @param {string} caption
 * @param {string} tags one or several, with commas
 * @returns {string}
 */
export function addTags(caption, tags) {
  const known = new Set(tagsOf(caption).map(folded))
  const added = tagsOf(tags).filter((tag) => !known.has(folded(tag)))
  return added.length ? [caption.trim().replace(/,$/, ""), ...added].filter(Boolean).join(", ") : caption
}

/**
 * A caption without some tags; unchanged if it has none of them.
 * @param {string} caption
 * @param {string} tags one or several, with commas
 * @returns {string}
 */
export function removeTags(caption, tags) {
  const unwanted = new Set(tagsOf(tags).map(folded))
  const all = tagsOf(caption)
  const kept = all.filter((tag) => !unwanted.has(folded(tag)))
  return kept.length < all.length ? kept.join(", ") : caption
}

/**
 * A caption with the trigger word in front, unless it has the word, or a place for it, already.
 * @param {string} caption
 * @param {string} trigger
 * @returns {string}
 */
export function prependTrigger(caption, trigger) {
  const word = trigger.trim()
  if (!word || caption.includes("[trigger]") || hasWord(caption, word)) return caption
  return caption.trim() ? `${word}, ${caption.trim()}` : word
}

/**
 * A caption with every occurrence of a text replaced.
 * @param {string} caption
 * @param {string} wanted taken as it is, no pattern
 * @param {string} replacement
 * @param {boolean} matchCase
 * @returns {string}
 */
export function replaceText(caption, wanted, replacement, matchCase) {
  if (!wanted) return caption
  const pattern = new RegExp(escaped(wanted), matchCase ? "gu" : "giu")
  return caption.replace(pattern, () => replacement)
}

/** Whether a word stands in a text by itself, as trustopt/data/captions.py finds it. */
function hasWord(text, word) {
  const letter = "[\\p{L}\\p{N}_]"
  return new RegExp(`(?<!${letter})${escaped(word)}(?!${letter})`, "iu").test(text)
}

function escaped(text) {
  return text.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&")
}

function folded(tag) {
  return tag.toLowerCase()
}
