package inbound

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/internal/wire"
)

// What is stored of senders is for ever. Every field is set.
func TestSenderFormat(t *testing.T) {
	at := time.Date(2026, 2, 3, 4, 5, 6, 7000000, time.UTC)
	s := stored{Sender: Sender{Reception: "payments", Name: "stripe", Created: at, By: "ann", Changed: at, Settings: Settings{
		Doc: "Who pays.", Format: Plain, Proof: Secret, PublicKeys: []string{"whpk_x"}, Header: "X-Secret", Query: "code",
		Sources: []string{"/bank"}, Origins: []string{"*"}, Rate: 120, ID: "/id", Type: "header:X-Type", Subject: "text:x",
	}}, Secrets: []secret{{Text: "new"}, {Text: "old", Until: at}}}
	data, err := wire.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/sender.json")
	if got := string(data) + "\n"; err != nil || got != string(want) {
		t.Errorf("%v\ngot  %s\nwant %s", err, got, want)
	}
	var back stored
	if err := wire.Unmarshal(data, &back); err != nil || !reflect.DeepEqual(back, s) {
		t.Errorf("%+v, %v", back, err)
	}
}

// Whatever comes, it is messages or a refusal; and what the official SDK can read of
// one CloudEvent means the same here.
func FuzzDecode(f *testing.F) {
	for _, seed := range [][3]string{
		{"application/cloudevents+json", "", `{"specversion":"1.0","id":"1","source":"/bank","type":"t","time":"2026-02-03T04:05:06Z","n":7,"data":{"a":1}}`},
		{"application/cloudevents+json; charset=utf-8", "", `{"specversion":"1.0","id":"1","source":"/bank","type":"t","datacontenttype":"text/plain","data":"x"}`},
		{"application/cloudevents-batch+json", "", `[{"specversion":"1.0","id":"1","source":"/bank","type":"t","data_base64":"eA=="}]`},
		{"application/json", "caf%C3%A9", `{"a":1}`},
		{"text/plain", `"a \"b\""`, `x`},
		{"application/json", "", `[{"id":"1","topic":"/t","subject":"s","eventType":"t","eventTime":"2026-02-03T04:05:06Z","data":{},"dataVersion":"1"}]`},
		{"application/json", "", `[{"id":"1","topic":"/t","eventType":"Microsoft.EventGrid.SubscriptionValidationEvent","data":{"validationCode":"x"}}]`},
		{"application/json", "x", `{"id":"1","type":"t","a":{"b/c":[1,2]}}`},
	} {
		f.Add(seed[0], seed[1], []byte(seed[2]))
	}
	f.Fuzz(func(t *testing.T, contentType, header string, body []byte) {
		h := http.Header{"Content-Type": {contentType}}
		if header != "" {
			for _, name := range []string{"Ce-Subject", "Webhook-Id", "Ce-Note"} {
				h.Set(name, header)
			}
			h.Set("Ce-Id", "1")
			h.Set("Ce-Source", "/")
			h.Set("Ce-Type", "t")
			h.Set("Ce-Specversion", "1.0")
		}
		for _, s := range []Settings{{}, {Format: EventGrid}, {Format: Plain, ID: Locator("/a/b~1c"), Subject: "header:Ce-Subject"}, {Format: Plain}} {
			got, err := s.Decode(h, body)
			if err != nil {
				_, invalid := errors.AsType[deed.Invalid](err)
				if _, refused := errors.AsType[Refusal](err); !invalid && !refused {
					t.Fatalf("%v", err)
				}
			}
			if _, err := s.Consent(h, body); err != nil {
				continue
			}
			if s.format() == CloudEvents && contentType == "application/cloudevents+json" && err == nil {
				compare(t, got[0], body)
			}
		}
	})
}

// compare has the official SDK read an event.
func compare(t *testing.T, m deed.InboundMessage, body []byte) {
	t.Helper()
	var e ce.Event
	if json.Unmarshal(body, &e) != nil || e.Validate() != nil {
		return
	}
	if m.ID != e.ID() || m.Source != e.Source() || m.Type != e.Type() || m.Subject != e.Subject() || m.ContentType != e.DataContentType() || !m.Time.Equal(e.Time()) {
		t.Errorf("%+v\nis\n%v", m, e)
	}
	if isJSON(m.ContentType) && e.DataBase64 || string(m.Data) == string(e.Data()) {
		return
	}
	if m.Data != nil && !json.Valid(e.Data()) || len(e.Data()) == 0 && m.Data == nil {
		return
	}
	t.Errorf("data %q, %q", m.Data, e.Data())
}

// A former secret is good until its time is up, whatever the proof.
func TestFormerSecrets(t *testing.T) {
	now, body := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC), []byte("{}")
	raw := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32)))
	signer, err := standard.NewWebhook(raw)
	if err != nil {
		t.Fatal(err)
	}
	for until, want := range map[time.Duration]bool{time.Second: true, 0: false, -time.Second: false} {
		for proof, text := range map[string]string{Signature: prefixHMAC + raw, Hub: "0123456789abcdef", Stripe: "0123456789abcdef", Secret: "0123456789abcdef"} {
			s := Settings{Proof: proof, secrets: []secret{{Text: prefixHMAC + "AAAA"}, {Text: text, Until: now.Add(until)}}}
			r := httptest.NewRequestWithContext(t.Context(), "POST", "/", nil)
			signature, err := signer.Sign("m", now, body)
			if err != nil {
				t.Fatal(err)
			}
			at := strconv.FormatInt(now.Unix(), 10)
			for name, v := range map[string]string{
				"Webhook-Id": "m", "Webhook-Timestamp": at, "Webhook-Signature": signature, "Authorization": "Bearer " + text,
				"X-Hub-Signature-256": "sha256=" + hex.EncodeToString(signed(text, body)), "Stripe-Signature": "t=" + at + ",v1=" + hex.EncodeToString(signed(text, []byte(at+".{}"))),
			} {
				r.Header.Set(name, v)
			}
			if err := s.Verify(r, body, now); (err == nil) != want {
				t.Errorf("%s, %v before its time is up: %v", proof, until, err)
			}
		}
	}
}

// A locator finds text and numbers, and nothing else.
func TestLocators(t *testing.T) {
	h := http.Header{"X-Id": {"7"}}
	body := []byte(` {"id":"a","n":12345678901234567890,"b":true,"o":{"x/y":{"~":"deep"}},"l":["x"],"null":null,"empty":""} `)
	for l, want := range map[Locator]string{
		"/id": "a", "/n": "12345678901234567890", "/b": "true", "/o/x~1y/~0": "deep", "/o": "", "/l/0": "", "/null": "", "/empty": "", "/none": "", "/id/x": "",
		"header:x-id": "7", "header:none": "", "text:some thing": "some thing", "": "",
	} {
		got, ok := l.in(h, body)
		if got != want || ok != (want != "") {
			t.Errorf("%s: %q, %v", l, got, ok)
		}
	}
}

// Every word that the settings may have is told when a wrong one is used.
func TestSettingsTell(t *testing.T) {
	for _, word := range []string{CloudEvents, EventGrid, Plain} {
		if err := (Settings{Format: "x"}).check(); err == nil || !strings.Contains(err.Error(), word) {
			t.Error(err)
		}
	}
	words := strings.Fields(strings.ReplaceAll((Settings{Proof: "x"}).check().Error(), ",", ""))
	for _, word := range []string{Signature, Hub, Stripe, Secret, Nothing} {
		if !slices.Contains(words, word) {
			t.Errorf("%s is not among %v", word, words)
		}
	}
}
