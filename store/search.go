package store

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Limits of what is searched, the same on every store.
const (
	MaxSearch   = 256    // bytes of a search
	MaxTerms    = 16     // of a search
	MaxWord     = 64     // bytes of a word: what it has more is cut off
	MaxDocWords = 10_000 // words of a document: what comes after them is not searched
)

// A Search is what somebody looks for in texts. All terms must be there.
type Search []Term

// A Term is words that follow each other in one text. If it is a Prefix, the last
// one need only begin so.
type Term struct {
	Words  []string
	Prefix bool
}

// ParseSearch reads a search as people write it: words, of which all must be
// there, in whatever order; "words in quotation marks", which must follow each
// other; and the beginning of a word with a star behind it, as in rep*.
func ParseSearch(s string) (Search, error) {
	if len(s) > MaxSearch {
		return nil, fmt.Errorf("%w: a search has at most %d bytes", ErrInvalid, MaxSearch)
	}
	if !utf8.ValidString(s) {
		return nil, fmt.Errorf("%w: a search is text", ErrInvalid)
	}
	var all Search
	for s = strings.TrimLeftFunc(s, unicode.IsSpace); s != ""; s = strings.TrimLeftFunc(s, unicode.IsSpace) {
		var text string
		prefix := false
		if inside, quoted := strings.CutPrefix(s, `"`); quoted {
			var closed bool
			if text, s, closed = strings.Cut(inside, `"`); !closed {
				return nil, fmt.Errorf("%w: a quotation mark is not closed", ErrInvalid)
			}
			if r, _ := utf8.DecodeRuneInString(s); s != "" && !unicode.IsSpace(r) {
				return nil, fmt.Errorf("%w: a space comes after what stands in quotation marks", ErrInvalid)
			}
		} else {
			end := strings.IndexFunc(s, unicode.IsSpace)
			if end < 0 {
				end = len(s)
			}
			text, s = s[:end], s[end:]
			if text, prefix = strings.CutSuffix(text, "*"); prefix && len(Words(text)) == 0 {
				return nil, fmt.Errorf("%w: a star stands behind the beginning of a word, as in rep*", ErrInvalid)
			}
			if strings.Contains(text, `"`) {
				return nil, fmt.Errorf("%w: a quotation mark stands in front of a word or behind it", ErrInvalid)
			}
		}
		if strings.Contains(text, "*") {
			return nil, fmt.Errorf("%w: a star stands behind the beginning of a word, as in rep*", ErrInvalid)
		}
		words := Words(text)
		if len(words) == 0 { // a dash, for one
			continue
		}
		if len(all) == MaxTerms {
			return nil, fmt.Errorf("%w: a search has at most %d terms", ErrInvalid, MaxTerms)
		}
		all = append(all, Term{words, prefix})
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: a search has at least one word", ErrInvalid)
	}
	return all, nil
}

// Matches reports whether all terms are in the words of some texts.
func (s Search) Matches(texts [][]string) bool {
	for _, t := range s {
		if !slices.ContainsFunc(texts, t.in) {
			return false
		}
	}
	return true
}

func (t Term) in(text []string) bool {
	for at := range text {
		if t.at(text[at:]) {
			return true
		}
	}
	return false
}

func (t Term) at(text []string) bool {
	last := len(t.Words) - 1
	if len(text) <= last || !slices.Equal(text[:last], t.Words[:last]) {
		return false
	}
	return text[last] == t.Words[last] || t.Prefix && strings.HasPrefix(text[last], t.Words[last])
}

// Words returns the words of a text: letters and digits without anything in
// between, without regard to case. They have no other characters, so that an
// index can write them side by side. An accent makes another letter.
func Words(text string) []string {
	var words []string
	for word := range strings.FieldsFuncSeq(text, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsNumber(r) && !unicode.IsMark(r)
	}) {
		words = append(words, cut(strings.Map(fold, word)))
	}
	return words
}

// fold is one letter for all that differ in case only.
func fold(r rune) rune {
	if r < utf8.RuneSelf {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}
	least := r
	for next := unicode.SimpleFold(r); next != r; next = unicode.SimpleFold(next) {
		least = min(least, next)
	}
	return unicode.ToLower(least)
}

func cut(word string) string {
	if len(word) <= MaxWord {
		return word
	}
	n := MaxWord
	for !utf8.RuneStart(word[n]) {
		n--
	}
	return word[:n]
}

// WordsOf returns the words of each text in some fields of a JSON document. A
// field may be a text, or a list of texts; a path goes through lists, too.
func WordsOf(data []byte, fields []string) [][]string {
	var texts [][]string
	left := MaxDocWords
	for _, f := range fields {
		eachText(data, f, func(text string) {
			words := Words(text)
			words = words[:min(left, len(words))]
			if left -= len(words); len(words) > 0 {
				texts = append(texts, words)
			}
		})
	}
	return texts
}

// eachText calls f with the texts that stand at a path; "" = with data itself.
func eachText(data []byte, path string, f func(string)) {
	data = trimJSON(data)
	switch {
	case len(data) == 0:
	case data[0] == '[':
		var list []json.RawMessage
		if json.Unmarshal(data, &list) == nil {
			for _, x := range list {
				eachText(x, path, f)
			}
		}
	case data[0] == '{' && path != "":
		name, rest, _ := strings.Cut(path, ".")
		var obj map[string]json.RawMessage
		if json.Unmarshal(data, &obj) == nil {
			eachText(obj[name], rest, f)
		}
	case data[0] == '"' && path == "":
		var text string
		if json.Unmarshal(data, &text) == nil {
			f(text)
		}
	}
}

func trimJSON(data []byte) []byte {
	for len(data) > 0 && (data[0] == ' ' || data[0] == '\t' || data[0] == '\n' || data[0] == '\r') {
		data = data[1:]
	}
	return data
}

// UniqueWords are the words of texts, each once and in order, as an index needs
// them that says which documents have a word.
func UniqueWords(texts [][]string) []string {
	words := slices.Concat(texts...)
	slices.Sort(words)
	return slices.Compact(words)
}
