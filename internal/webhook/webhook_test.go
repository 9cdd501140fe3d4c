package webhook

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2/event"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/deed-dev/deed/internal/delivery"
	"github.com/deed-dev/deed/internal/engine"
	"github.com/deed-dev/deed/internal/sinks"
)

// placed returns public events of an order whose id needs escaping.
func placed(n int) (out []delivery.Event) {
	for i := range n {
		out = append(out, delivery.Event{
			SpecVersion: "1.0", ID: fmt.Sprintf("order/ö 1:%d", i+1), Source: "/orders", Type: "order.placed.v2", Subject: "order/ö 1",
			Time: time.Date(2026, 2, 3, 4, 5, 6, 7000, time.UTC), ContentType: "application/json", Aggregate: "ö 1", Correlation: "flow",
			PartitionKey: "order/ö 1", Sequence: fmt.Sprintf("%019d", i+1), Data: json.RawMessage(`{"total":7}`),
		})
	}
	return out
}

// open makes a webhook on this machine, and returns it with its secrets.
func open(t *testing.T, url, more string) (k *Kind, stored json.RawMessage, target delivery.Target, once map[string]string) {
	t.Helper()
	k = New(sinks.NewHosts([]string{"127.0.0.1"}, false), "deed.example")
	stored, once, err := k.Prepare(t.Context(), "orders/shop", json.RawMessage(`{"kind":"webhook","url":"`+url+`"`+more+`}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	target, err = k.Open("orders/shop", stored)
	if err != nil {
		t.Fatal(err)
	}
	return k, stored, target, once
}

// receiver serves one handler.
func receiver(t *testing.T, f http.HandlerFunc) string {
	srv := httptest.NewServer(f)
	t.Cleanup(func() { srv.CloseClientConnections(); srv.Close() })
	return srv.URL
}

// The official libraries verify what is delivered, in every format.
func TestFormats(t *testing.T) {
	for _, c := range []struct {
		format string
		n      int
		want   string
	}{
		{"structured", 1, "application/cloudevents+json; charset=utf-8"}, {"structured", 3, "application/cloudevents-batch+json; charset=utf-8"},
		{"batch", 1, "application/cloudevents-batch+json; charset=utf-8"}, {"binary", 2, "application/json"},
	} {
		var got []ce.Event
		var verify atomic.Pointer[standard.Webhook]
		url := receiver(t, func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if err := verify.Load().Verify(body, r.Header); err != nil {
				t.Errorf("%s: %v", c.format, err)
			}
			if r.Header.Get("Content-Type") != c.want || r.Header.Get("Webhook-Request-Origin") != "deed.example" {
				t.Errorf("%s: %v", c.format, r.Header)
			}
			r.Body = io.NopCloser(strings.NewReader(string(body)))
			if strings.Contains(c.want, "batch") {
				events, err := cehttp.NewEventsFromHTTPRequest(r)
				if err != nil {
					t.Error(err)
				}
				got = append(got, events...)
				return
			}
			e, err := cehttp.NewEventFromHTTPRequest(r)
			if err != nil {
				t.Error(err)
				return
			}
			got = append(got, *e)
		})
		_, _, target, once := open(t, url, `,"format":"`+c.format+`"`)
		w, err := standard.NewWebhook(once["secret"])
		if err != nil {
			t.Fatal(err)
		}
		verify.Store(w)
		if err := target.Deliver(t.Context(), placed(c.n)); err != nil || len(got) != c.n {
			t.Fatalf("%s: %v, %d events", c.format, err, len(got))
		}
		for i, e := range got {
			want := placed(c.n)[i]
			if c.format == "binary" { // as the specification says; the library leaves it so
				want.ID, want.Subject, want.PartitionKey, want.Aggregate = delivery.Escaped(want.ID), delivery.Escaped(want.Subject), delivery.Escaped(want.PartitionKey), delivery.Escaped(want.Aggregate)
			}
			if err := e.Validate(); err != nil || e.Type() != want.Type || e.Subject() != want.Subject || e.ID() != want.ID || !e.Time().Equal(want.Time) ||
				string(e.Data()) != string(want.Data) || e.Extensions()["partitionkey"] != want.PartitionKey || e.Extensions()["aggregate"] != want.Aggregate {
				t.Errorf("%s: %v %v", c.format, e, err)
			}
		}
	}
}

// The schema of Event Grid.
func TestGrid(t *testing.T) {
	var got []map[string]any
	url := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Aeg-Event-Type") != "Notification" || r.Header.Get("Aeg-Subscription-Name") != "orders/shop" || json.NewDecoder(r.Body).Decode(&got) != nil {
			t.Errorf("%v", r.Header)
		}
	})
	_, _, target, _ := open(t, url, `,"format":"eventgrid"`)
	if err := target.Deliver(t.Context(), placed(2)); err != nil || len(got) != 2 {
		t.Fatal(err, got)
	}
	want := `{"data":{"total":7},"dataVersion":"2","eventTime":"2026-02-03T04:05:06.000007Z","eventType":"order.placed.v2","id":"order/ö 1:1","metadataVersion":"1","subject":"order/ö 1","topic":"/orders"}`
	if one, err := json.Marshal(got[0]); err != nil || string(one) != want {
		t.Errorf("%s, %v", one, err)
	}
}

// While a secret is replaced the old and the new one both verify; after a day
// only the new one does. An id is the same whenever the same is delivered.
func TestRotation(t *testing.T) {
	var header http.Header
	var body []byte
	var ids []string
	url := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		header, ids = r.Header.Clone(), append(ids, r.Header.Get("Webhook-Id"))
		body, _ = io.ReadAll(r.Body)
	})
	k, stored, _, first := open(t, url, "")
	rotated, second, err := k.Rotate(stored)
	if err != nil || second["secret"] == first["secret"] {
		t.Fatal(second, err)
	}
	deliver := func(at time.Time, secrets map[string]bool) {
		t.Helper()
		k.now = func() time.Time { return at }
		target, err := k.Open("orders/shop", rotated)
		if err != nil {
			t.Fatal(err)
		}
		if err := target.Deliver(t.Context(), placed(1)); err != nil {
			t.Fatal(err)
		}
		for secret, good := range secrets {
			w, err := standard.NewWebhook(secret)
			if err != nil {
				t.Fatal(err)
			}
			if err := w.VerifyIgnoringTimestamp(body, header); (err == nil) != good {
				t.Errorf("%v, want %v: %s", err, good, header.Get("Webhook-Signature"))
			}
		}
	}
	deliver(time.Now(), map[string]bool{first["secret"]: true, second["secret"]: true})
	deliver(time.Now().Add(25*time.Hour), map[string]bool{first["secret"]: false, second["secret"]: true})
	if ids[0] != ids[1] || ids[0] != "order/%C3%B6%201:1" {
		t.Errorf("%q", ids)
	}
	for _, s := range []json.RawMessage{k.Shown(stored), k.Shown(rotated)} {
		if text := string(s); strings.Contains(text, "whsec_") || strings.Contains(text, strings.TrimPrefix(first["secret"], "whsec_")) {
			t.Errorf("a secret is shown: %s", s)
		}
	}
}

// A pair of keys: only the public one is given out, and it verifies.
func TestPublicKey(t *testing.T) {
	var header http.Header
	var body []byte
	url := receiver(t, func(w http.ResponseWriter, r *http.Request) {
		header = r.Header.Clone()
		body, _ = io.ReadAll(r.Body)
	})
	k, stored, target, once := open(t, url, `,"signing":"ed25519","headers":{"Authorization":"Bearer hush"}`)
	if err := target.Deliver(t.Context(), placed(1)); err != nil {
		t.Fatal(err)
	}
	public, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(once["public_key"], "whpk_"))
	if err != nil {
		t.Fatal(err)
	}
	signed, is := strings.CutPrefix(header.Get("Webhook-Signature"), "v1a,")
	signature, err := base64.StdEncoding.DecodeString(signed)
	message := fmt.Appendf(nil, "%s.%s.%s", header.Get("Webhook-Id"), header.Get("Webhook-Timestamp"), body)
	if !is || err != nil || !ed25519.Verify(public, message, signature) || header.Get("Authorization") != "Bearer hush" {
		t.Errorf("%v %v", header, err)
	}
	if s := string(k.Shown(stored)); strings.Contains(s, "whsk_") || strings.Contains(s, "hush") || !strings.Contains(s, once["public_key"]) {
		t.Errorf("%s", s)
	}
}

// The example of the specification's libraries: the same secret, id, time and
// body have the same signature everywhere.
func TestKnownSignature(t *testing.T) {
	all, err := signersOf([]secret{{Text: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := signatures(all, "msg_p5jXN8AQM9LWM0D4loKWxJek", time.Unix(1614265330, 0), []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; err != nil || got != want {
		t.Errorf("%s, %v, want %s", got, err, want)
	}
}

// What is shown can be changed and sent back: what is hidden in it stays.
func TestShownIsSentBack(t *testing.T) {
	k, stored, _, once := open(t, "http://127.0.0.1:9/hook?code=hush", `,"headers":{"Authorization":"Bearer hush"},"signing":"ed25519"`)
	shown := k.Shown(stored)
	if strings.Contains(string(shown), "hush") || once["public_key"] == "" {
		t.Fatalf("%s", shown)
	}
	again, news, err := k.Prepare(t.Context(), "orders/shop", json.RawMessage(strings.Replace(string(shown), `"timeout":"15s"`, `"timeout":"5s"`, 1)), stored)
	if err != nil || len(news) > 0 {
		t.Fatal(news, err)
	}
	want := strings.Replace(string(stored), `"signing":"ed25519",`, `"format":"structured","signing":"ed25519","handshake":"none","timeout":"5s",`, 1)
	if string(again) != want {
		t.Errorf("%s, want %s", again, want)
	}
	elsewhere := json.RawMessage(strings.Replace(string(shown), "127.0.0.1:9", "127.0.0.1:10", 1))
	if got, _, err := k.Prepare(t.Context(), "orders/shop", elsewhere, stored); err == nil || !strings.Contains(err.Error(), "Authorization") {
		t.Errorf("what is hidden goes to another host: %s, %v", got, err)
	}
}

// A receiver that has to consent is asked before anything is delivered, as
// Event Grid and CloudEvents do it.
func TestConsent(t *testing.T) {
	answer := func(status int, header map[string]string, body func(code string) string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			var got []gridEvent
			code := ""
			if r.Method == http.MethodPost {
				var data struct {
					ValidationCode string `json:"validationCode"`
				}
				if json.NewDecoder(r.Body).Decode(&got) != nil || len(got) != 1 || got[0].EventType != "Microsoft.EventGrid.SubscriptionValidationEvent" ||
					r.Header.Get("Aeg-Event-Type") != "SubscriptionValidation" || json.Unmarshal(got[0].Data, &data) != nil {
					t.Errorf("%v %+v", r.Header, got)
				}
				code = data.ValidationCode
			} else if r.Method != http.MethodOptions || r.Header.Get("WebHook-Request-Origin") != "deed.example" {
				t.Errorf("%s %v", r.Method, r.Header)
			}
			for name, v := range header {
				w.Header().Set(name, v)
			}
			w.WriteHeader(status)
			io.WriteString(w, body(code))
		}
	}
	nothing := func(string) string { return "" }
	back := func(code string) string { return `{"validationResponse":"` + code + `"}` }
	for _, c := range []struct {
		how    string
		serve  http.HandlerFunc
		refuse string
	}{
		{"cloudevents", answer(200, map[string]string{"WebHook-Allowed-Origin": "deed.example", "Allow": "POST"}, nothing), ""},
		{"cloudevents", answer(204, map[string]string{"WebHook-Allowed-Origin": "*"}, nothing), ""},
		{"cloudevents", answer(200, nil, nothing), "WebHook-Allowed-Origin"},
		{"cloudevents", answer(200, map[string]string{"WebHook-Allowed-Origin": "other.example"}, nothing), "other.example"},
		{"cloudevents", answer(405, map[string]string{"WebHook-Allowed-Origin": "*"}, nothing), "405"},
		{"eventgrid", answer(200, nil, back), ""},
		{"eventgrid", answer(202, nil, back), "202"},
		{"eventgrid", answer(200, nil, func(string) string { return `{"validationResponse":"x"}` }), "code back"},
		{"eventgrid", answer(200, nil, nothing), "code back"},
	} {
		url := receiver(t, c.serve)
		k := New(sinks.NewHosts([]string{"127.0.0.1"}, false), "deed.example")
		stored, _, err := k.Prepare(t.Context(), "orders/shop", json.RawMessage(`{"kind":"webhook","url":"`+url+`","handshake":"`+c.how+`"}`), nil)
		if c.refuse == "" && err != nil || c.refuse != "" && (err == nil || !strings.Contains(err.Error(), c.refuse)) {
			t.Errorf("%s: %v, want %q", c.how, err, c.refuse)
		}
		if err == nil && !strings.Contains(string(stored), `"consented":"`+url) {
			t.Errorf("%s", stored)
		}
	}
}

func TestBadSettings(t *testing.T) {
	k := New(sinks.NewHosts([]string{"127.0.0.1"}, true), "deed.example")
	for settings, want := range map[string]string{
		`{"kind":"webhook"}`:                                                             "no web address",
		`{"kind":"webhook","url":"ftp://a.example"}`:                                     "no web address",
		`{"kind":"webhook","url":"http://a.example"}`:                                    "has to be https",
		`{"kind":"webhook","url":"https://ann:x@a.example"}`:                             "has a user",
		`{"kind":"webhook","url":"https://a.example:8443"}`:                              "not allowed",
		`{"kind":"webhook","url":"https://a.example","format":"xml"}`:                    "format is one of",
		`{"kind":"webhook","url":"https://a.example","signing":"rsa"}`:                   "signing is one of",
		`{"kind":"webhook","url":"https://a.example","timeout":"1h"}`:                    "timeout is",
		`{"kind":"webhook","url":"https://a.example","retries":3}`:                       "unknown field",
		`{"kind":"webhook","url":"https://a.example","secrets":[{"text":"whsec_AAAA"}]}`: "are made here",
		`{"kind":"webhook","url":"https://a.example","headers":{"Webhook-Id":"1"}}`:      "set by deed",
		`{"kind":"webhook","url":"https://a.example","headers":{"X-A":"a\r\nX-B: b"}}`:   "which is none",
	} {
		if _, _, err := k.Prepare(t.Context(), "orders/shop", json.RawMessage(settings), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", settings, err, want)
		}
	}
}

// A receiver from hell does no harm: each of its answers is what it is, in time
// and within bounds.
func TestReceiverFromHell(t *testing.T) {
	kind := func(err error) string {
		var busy delivery.Busy
		var gone delivery.Gone
		switch {
		case err == nil:
			return "fine"
		case errors.As(err, &gone):
			return "gone"
		case errors.As(err, &busy):
			return "busy " + busy.After.String()
		case engine.IsPermanent(err):
			return "permanent"
		}
		return "temporary"
	}
	answer := func(status int, headers ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for i := 0; i < len(headers); i += 2 {
				w.Header().Set(headers[i], headers[i+1])
			}
			w.WriteHeader(status)
		}
	}
	hang := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}
	closes := func(w http.ResponseWriter, r *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			conn.Close()
		}
	}
	var sent atomic.Int64
	endless := func(w http.ResponseWriter, r *http.Request) { // 10 GB, if anybody takes them
		block := make([]byte, 64<<10)
		for sent.Load() < 10<<30 {
			n, err := w.Write(block)
			if sent.Add(int64(n)); err != nil {
				return
			}
		}
	}
	slow := func(w http.ResponseWriter, r *http.Request) {
		for range 100 {
			io.WriteString(w, ".")
			if http.NewResponseController(w).Flush() != nil || r.Context().Err() != nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	late := func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		select {
		case <-time.After(3 * time.Second):
		case <-r.Context().Done():
		}
	}
	for _, c := range []struct {
		name  string
		serve http.HandlerFunc
		want  string
		says  string
	}{
		{"200", answer(200), "fine", ""}, {"204", answer(204), "fine", ""},
		{"500", answer(500), "temporary", "500"}, {"502", answer(502), "temporary", "502"}, {"401", answer(401), "temporary", "401"},
		{"404", answer(404), "temporary", "404"}, {"400", answer(400), "temporary", "400"},
		{"413", answer(413), "permanent", "413"}, {"422", answer(422), "permanent", "422"},
		{"429", answer(429), "busy 0s", "429"}, {"429 with seconds", answer(429, "Retry-After", "120"), "busy 2m0s", "429"},
		{"429 with a time that has passed", answer(429, "Retry-After", "Mon, 02 Jan 2006 15:04:05 GMT"), "busy 0s", "429"},
		{"503 with seconds", answer(503, "Retry-After", "7"), "busy 7s", "503"}, {"503", answer(503), "temporary", "503"},
		{"410", answer(410), "gone", "410"},
		{"redirect", answer(302, "Location", "http://169.254.169.254/latest/meta-data"), "temporary", "redirects are not followed"},
		{"hangs", hang, "temporary", "did not answer within 1s"}, {"closes", closes, "temporary", "EOF"},
		{"10 GB", endless, "fine", ""}, {"slow body", slow, "fine", ""}, {"answers late", late, "temporary", "did not answer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, _, target, _ := open(t, receiver(t, c.serve), `,"timeout":"1s"`)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			start := time.Now()
			err := target.Deliver(t.Context(), placed(1))
			if took := time.Since(start); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
			runtime.ReadMemStats(&after)
			if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 64<<20 {
				t.Errorf("the heap has grown by %d MiB", grown>>20)
			}
			if got := kind(err); got != c.want || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("%s (%v), want %s with %q", got, err, c.want, c.says)
			}
		})
	}
	t.Run("TLS", func(t *testing.T) {
		srv := httptest.NewUnstartedServer(answer(200))
		srv.Config.ErrorLog = log.New(io.Discard, "", 0)
		srv.StartTLS()
		defer srv.Close()
		_, _, target, _ := open(t, srv.URL, "")
		if err := target.Deliver(t.Context(), placed(1)); kind(err) != "temporary" || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("%v", err)
		}
	})
	t.Cleanup(func() {
		if n := sent.Load(); n > 1<<30 {
			t.Errorf("%d bytes of an endless answer were taken", n)
		}
	})
}

// No address within is ever connected to, whatever it is written like.
func TestNothingWithin(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var connected atomic.Int64
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			connected.Add(1)
			c.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	hosts := []string{
		"127.0.0.1", "127.0.0.1:" + port, "127.1", "127.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.255.255.254", "0.0.0.0", "0", "localhost", "localhost:" + port,
		"LOCALHOST", "localhost.", "[::1]", "[::1]:" + port, "[::]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[::127.0.0.1]",
		"10.0.0.1", "10.255.255.255", "172.16.0.1", "172.31.255.255", "192.168.0.1", "192.168.255.255", "169.254.169.254", "[::ffff:169.254.169.254]", "[fd00:ec2::254]", "169.254.0.1",
		"100.64.0.1", "100.127.255.255", "192.0.0.1", "192.0.2.1", "198.51.100.1", "203.0.113.1", "198.18.0.1", "198.19.255.255", "192.88.99.1",
		"224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255", "0.1.2.3",
		"[fc00::1]", "[fd12:3456::1]", "[fe80::1]", "[fe80::1%25lo]", "[ff02::1]", "[2001:db8::1]", "[64:ff9b::127.0.0.1]", "[64:ff9b::10.0.0.1]", "[64:ff9b:1::1]", "[2002:7f00:1::]", "[2002:0a00:1::]",
		"[2001::1]", "[2001:10::1]", "[100::1]", "[3fff::1]",
	}
	if len(hosts) != 60 {
		t.Fatalf("%d addresses", len(hosts))
	}
	k := New(sinks.NewHosts(nil, true), "deed.example")
	for _, host := range hosts {
		address := "https://" + host + "/hook"
		stored, _, err := k.Prepare(t.Context(), "orders/shop", json.RawMessage(`{"kind":"webhook","url":"`+address+`"}`), nil)
		if err != nil {
			continue // it was not even taken
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		target, err := k.Open("orders/shop", stored)
		if err == nil {
			err = target.Deliver(ctx, placed(1))
		}
		cancel()
		if err == nil || !slices.ContainsFunc([]string{"prohibited", "not permitted", "no such host", "lookup", "not allowed", "denied"}, func(s string) bool { return strings.Contains(err.Error(), s) }) {
			t.Errorf("%s: %v", address, err)
		}
	}
	if n := connected.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
}
