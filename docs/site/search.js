/* Ask the search for words as they are meant. Material takes each word of a question for the beginning
   of others: of a pasted error message "a" alone would find every page whose title begins with it. Here
   a word alone and the second of two may still be typed; others are whole, and those that say nothing are
   dropped. */
"use strict";

const QUERY = 2; // the kind of message with which Material asks its worker
const SAY_NOTHING = new Set(
  ("a all an and and are as at be but by can check do does for from has have how i if in is it its me my of on or " +
    "please so than that the then there this to try was what when which will with you").split(" "),
);

function asMeant(question) {
  const words = question
    .split(/[\s:^~*+"]+/)
    .map((word) => word.replace(/^[^\p{L}\p{N}]+|[^\p{L}\p{N}]+$/gu, ""))
    .filter(Boolean);
  const telling = words.filter((word) => !SAY_NOTHING.has(word.toLowerCase()));
  if (!telling.length) return words.join(" ");
  const isTyped = words.length < 3 && telling.length === words.length && !/^(\d+|.)$/.test(words.at(-1));
  const whole = isTyped ? telling.slice(0, -1) : telling;
  return [...whole.map((word) => `${word}^1`), ...(isTyped ? words.slice(-1) : [])].join(" ");
}

const post = Worker.prototype.postMessage;
Worker.prototype.postMessage = function (message, ...rest) {
  const asks = message?.type === QUERY && typeof message.data === "string";
  return post.call(this, asks ? { ...message, data: asMeant(message.data) } : message, ...rest);
};
