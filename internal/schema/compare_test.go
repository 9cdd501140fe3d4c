package schema_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"

	"github.com/deed-dev/deed/internal/schema"
)

// What breaks which promise.
func TestBreaks(t *testing.T) {
	const object = `{"type":"object","properties":{"a":{"type":"string"},"b":%s},"required":[%s]}`
	of := func(b, required string) string { return fmt.Sprintf(object, b, required) }
	for name, test := range map[string]struct {
		was, is        string
		stored, public string
	}{
		"nothing":                  {of(`{"type":"string"}`, `"a"`), of(`{"type":"string"}`, `"a"`), "", ""},
		"words":                    {of(`{"type":"string"}`, ``), of(`{"type":"string","description":"new words"}`, ``), "", ""},
		"an optional field":        {of(`{"type":"string"}`, ``), strings.Replace(of(`{"type":"string"}`, ``), `"a"`, `"c":{"type":"null"},"a"`, 1), "", ""},
		"a required field":         {of(`{"type":"string"}`, ``), strings.Replace(of(`{"type":"string"}`, `"c"`), `"a"`, `"c":{"type":"null"},"a"`, 1), "added c", "added c"},
		"a field less":             {of(`{"type":"string"}`, ``), strings.Replace(of(`{"type":"string"}`, ``), `"a":{"type":"string"},`, ``, 1), "removed a", "removed a"},
		"now required":             {of(`{"type":"string"}`, ``), of(`{"type":"string"}`, `"b"`), "required b", "required b"},
		"now optional":             {of(`{"type":"string"}`, `"b"`), of(`{"type":"string"}`, ``), "", "optional b"},
		"another type":             {of(`{"type":"string"}`, ``), of(`{"type":"integer"}`, ``), "type b", "type b"},
		"a wider number":           {of(`{"type":"integer"}`, ``), of(`{"type":"number"}`, ``), "", "type b"},
		"a narrower number":        {of(`{"type":"number"}`, ``), of(`{"type":"integer"}`, ``), "type b", "type b"},
		"a longer number":          {of(`{"type":"integer","format":"int32"}`, ``), of(`{"type":"integer","format":"int64"}`, ``), "", "type b"},
		"a shorter number":         {of(`{"type":"integer","format":"int64"}`, ``), of(`{"type":"integer","format":"int32"}`, ``), "type b", "type b"},
		"anything":                 {of(`{"type":"string"}`, ``), of(`{}`, ``), "", "type b"},
		"not anything":             {of(`{}`, ``), of(`{"type":"string"}`, ``), "type b", "type b"},
		"null too":                 {of(`{"type":"string"}`, ``), of(`{"type":["string","null"]}`, ``), "", "type b"},
		"null no more":             {of(`{"type":["string","null"]}`, ``), of(`{"type":"string"}`, ``), "type b", "type b"},
		"a time":                   {of(`{"type":"string"}`, ``), of(`{"type":"string","format":"date-time"}`, ``), "type b", "type b"},
		"some text":                {of(`{"type":"string","format":"date-time"}`, ``), of(`{"type":"string"}`, ``), "", "type b"},
		"fewer values":             {of(`{"enum":["x","y"]}`, ``), of(`{"enum":["x"]}`, ``), "values b", "values b"},
		"more values":              {of(`{"enum":["x"]}`, ``), of(`{"enum":["x","y"]}`, ``), "", "values b"},
		"any value":                {of(`{"type":"string","enum":["x"]}`, ``), of(`{"type":"string"}`, ``), "", "values b"},
		"some values":              {of(`{"type":"string"}`, ``), of(`{"type":"string","enum":["x"]}`, ``), "values b", "values b"},
		"no negative ones":         {of(`{"type":"integer"}`, ``), of(`{"type":"integer","minimum":0}`, ``), "values b", "values b"},
		"negative ones":            {of(`{"type":"integer","minimum":0}`, ``), of(`{"type":"integer"}`, ``), "", "values b"},
		"a longer list":            {of(`{"type":"array","maxItems":2}`, ``), of(`{"type":"array","maxItems":3}`, ``), "", "values b"},
		"a longer list at least":   {of(`{"type":"array","minItems":2}`, ``), of(`{"type":"array","minItems":3}`, ``), "values b", "values b"},
		"another pattern":          {of(`{"type":"string","pattern":"a"}`, ``), of(`{"type":"string","pattern":"b"}`, ``), "values b", "values b"},
		"a keyword of one's own":   {of(`{"type":"string","maxLength":3}`, ``), of(`{"type":"string","maxLength":2}`, ``), "values b", "values b"},
		"in a list":                {of(`{"type":"array","items":{"type":"string"}}`, ``), of(`{"type":"array","items":{"type":"integer"}}`, ``), "type b[]", "type b[]"},
		"in a dictionary":          {of(`{"type":"object","additionalProperties":{"type":"string"}}`, ``), of(`{"type":"object","additionalProperties":{"type":"integer"}}`, ``), "type b.*", "type b.*"},
		"a list of anything":       {of(`{"type":"array","items":{"type":"string"}}`, ``), of(`{"type":"array"}`, ``), "", "type b[]"},
		"a reference":              {of(`{"type":"object","properties":{"x":{}}}`, ``), strings.TrimSuffix(of(`{"$ref":"#/$defs/X"}`, ``), "}") + `,"$defs":{"X":{"type":"object","properties":{"x":{}}}}}`, "", ""},
		"a reference elsewhere":    {of(`{"type":"string"}`, ``), strings.TrimSuffix(of(`{"$ref":"#/$defs/X"}`, ``), "}") + `,"$defs":{"X":{"type":"integer"}}}`, "type b", "type b"},
		"something or null":        {of(`{"type":["object","null"]}`, ``), strings.TrimSuffix(of(`{"anyOf":[{"$ref":"#/$defs/X"},{"type":"null"}]}`, ``), "}") + `,"$defs":{"X":{"type":"object"}}}`, "", ""},
		"what contains itself":     {`{"$ref":"#/$defs/X","$defs":{"X":{"type":"object","properties":{"x":{"$ref":"#/$defs/X"},"y":{}}}}}`, `{"$ref":"#/$defs/X","$defs":{"X":{"type":"object","properties":{"x":{"$ref":"#/$defs/X"}}}}}`, "removed y", "removed y"},
		"an object, not a list":    {`{"type":"array"}`, `{"type":"object","properties":{"x":{}},"required":["x"]}`, "type ", "type "},
		"two, as soon as they are": {of(`{"type":"string"}`, ``), `{"type":"object","properties":{"b":{"type":"null"}}}`, "removed a, type b", "removed a, type b"},
	} {
		var was, is schema.Schema
		if err := errors.Join(json.Unmarshal([]byte(test.was), &was), json.Unmarshal([]byte(test.is), &is)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for promise, want := range map[schema.Promise]string{schema.Stored: test.stored, schema.Public: test.public} {
			var got []string
			for _, c := range schema.Breaks(&was, &is, promise) {
				got = append(got, fmt.Sprintf("%s %s", c.Kind, c.Field))
			}
			slices.Sort(got)
			if strings.Join(got, ", ") != want {
				t.Errorf("%s, promise %d: %v, want %s", name, promise, got, want)
			}
		}
	}
}
