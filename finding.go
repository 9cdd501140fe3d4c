package deed

import "slices"

// A Finding is something that a look at a command found wrong with it.
type Finding struct {
	Field string `json:"field,omitempty"` // path into the command, for example "items.0.quantity"; "" = all of it
	Text  string `json:"text"`
	Fatal bool   `json:"fatal,omitzero"` // the command cannot be done as it is; else it is a warning
}

// maxFindings is how many findings of a command are recorded and shown.
const maxFindings = 100

// firstFindings are those of many that are recorded and shown: those that are
// fatal come first.
func firstFindings(found []Finding) []Finding {
	if len(found) <= maxFindings {
		return found
	}
	found = slices.Clone(found)
	slices.SortStableFunc(found, func(a, b Finding) int {
		switch {
		case a.Fatal == b.Fatal:
			return 0
		case a.Fatal:
			return -1
		}
		return 1
	})
	return slices.Clone(found[:maxFindings])
}

// findingsOf are the findings that an error means: one for each [Invalid] that
// it is made of.
func findingsOf(err error) (found []Finding) {
	switch e := err.(type) {
	case Invalid:
		return []Finding{{Field: e.Field, Text: e.Detail, Fatal: true}}
	case interface{ Unwrap() []error }:
		for _, e := range e.Unwrap() {
			found = append(found, findingsOf(e)...)
		}
	case interface{ Unwrap() error }:
		found = findingsOf(e.Unwrap())
	}
	return found
}

// toRecord are the findings as they are recorded, and how many there are if
// those are not all.
func toRecord(found []Finding) (first []Finding, count int) {
	if len(found) > maxFindings {
		count = len(found)
	}
	first = slices.Clone(firstFindings(found))
	for i := range first {
		first[i].Field, first[i].Text = clip(first[i].Field), clip(first[i].Text)
	}
	return first, count
}
