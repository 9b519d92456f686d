// Find what has a colour in a text: comments, strings, numbers, keys and words of the language.

const raw = String.raw;
const STRING = raw`"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?`;
const LONG_STRING = raw`"""[^]*?(?:"""|$(?![^]))|'''[^]*?(?:'''|$(?![^]))`;
const NUMBER = raw`(?<![\w.])[-+]?(?:0[xX][\da-fA-F_]+|\d[\d_]*(?:\.[\d_]*)?(?:[eE][-+]?\d+)?)(?![\w.])`;
const PYTHON = "and|as|assert|async|await|break|class|continue|def|del|elif|else|except|finally|for|from|global|if|import|in|is"
  + "|lambda|nonlocal|not|or|pass|raise|return|try|while|with|yield|True|False|None";

// No pattern looks back or ahead over many characters: a hostile text would take quadratic time.
const FORMATS = {
  json: {
    key: raw`"(?:\\.|[^"\\\n])*"(?=[ \t]*:)`,
    string: STRING,
    word: raw`\b(?:true|false|null)\b`,
  },
  yaml: {
    comment: raw`(?<!\S)#.*`,
    key: raw`(?<!\S)[^\s:#'"{}\[\],&*!|>%@-][^\s:]*(?=:(?:\s|$))`,
    string: STRING,
    word: raw`(?<=[:,\[-] ?)(?:[Tt]rue|[Ff]alse|null|[Yy]es|[Nn]o|[Oo]n|[Oo]ff|~)(?=[ \t]*(?:[,\]#}]|$))`,
  },
  toml: {
    comment: "#.*",
    word: raw`^[ \t]*\[.*\][ \t]*$|\b(?:true|false)\b`,
    key: raw`(?<![\w.-])[\w.-]+(?![\w.-])(?=[ \t]*=)`,
    string: `${LONG_STRING}|${STRING}`,
  },
  python: {
    comment: "#.*",
    string: raw`(?<!\w)[rbfuRBFU]{0,2}(?:${LONG_STRING}|${STRING})`,
    word: raw`(?<![\w.])(?:${PYTHON})(?!\w)`,
    key: raw`(?<![\w.])[A-Za-z_]\w*(?==(?!=))`,
  },
};
FORMATS.notebook = FORMATS.json;

const PATTERNS = new Map(Object.entries(FORMATS).map(([format, kinds]) => [
  format,
  new RegExp(Object.entries({ ...kinds, number: NUMBER }).map(([kind, pattern]) =>
    `(?<${kind}>${pattern})`).join("|"), "gm"),
]));

/** Return the coloured parts of a text in their order: `start`, `end` and `kind`. */
export function coloured(text, format) {
  const pattern = PATTERNS.get(format) ?? PATTERNS.get("yaml");
  return Array.from(text.matchAll(pattern), ({ 0: found, index, groups }) => ({
    start: index,
    end: index + found.length,
    kind: Object.keys(groups).find((kind) => groups[kind] !== undefined),
  }));
}
