package httpapi_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	ce "github.com/cloudevents/sdk-go/v2"
	cehttp "github.com/cloudevents/sdk-go/v2/protocol/http"
	standard "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/deed-dev/deed/auth"
	"github.com/deed-dev/deed/deedtest"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/faulty"
	"github.com/deed-dev/deed/internal/httptry"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

// A porch is a server with a reception, and its store.
type porch struct {
	testing.TB
	base string
	s    store.Store
}

func newPorch(t testing.TB) porch {
	t.Helper()
	s := mem.New()
	srv := httptest.NewServer(httpapi.New(deedtest.StartOn(t, s, jars()), httpapi.Options{}))
	t.Cleanup(srv.Close)
	return porch{t, srv.URL, s}
}

func (p porch) sender(name string) string { return p.base + "/v1/receptions/deposits/senders/" + name }

// put makes a sender, and returns its secret.
func (p porch) put(name, settings string) string {
	p.Helper()
	made := httptry.Ask(p, "PUT", p.sender(name), settings)
	if made.Status != 200 {
		p.Fatalf("%s: %+v", settings, made)
	}
	secret, _ := made.Get("once", "secret").(string)
	return secret
}

// received are the messages that are stored, in order.
func (p porch) received() (out []string) {
	p.Helper()
	for rec, err := range p.s.ReadAll(p.Context(), store.Start, store.Filter{Categories: []string{"$message"}, Types: []string{"received"}}) {
		if err != nil {
			p.Fatal(err)
		}
		out = append(out, string(rec.Data))
	}
	return out
}

const (
	structuredType = "application/cloudevents+json"
	batchType      = "application/cloudevents-batch+json"
	coin           = `{"specversion":"1.0","id":"c-1","source":"/bank","type":"coin.found.v1","data":{"jar":"a"}}`
)

// What others send is stored as they say, in each of the formats.
func TestInboundFormats(t *testing.T) {
	for name, c := range map[string]struct {
		settings, body string
		headers        []string
		want           string
	}{
		"structured": {
			`{"proof":"none"}`, `{"specversion":"1.0","id":"1","source":"/bank","type":"t","subject":"s","time":"2026-02-03T05:05:06.5+01:00","dataschema":"/x","datacontenttype":"application/json","correlationid":"flow","n":7,"yes":true,"none":null,"data":{"a": 1.50}}`,
			[]string{"Content-Type", structuredType + "; charset=UTF-8"},
			`{"id":"1","source":"/bank","type":"t","subject":"s","time":"2026-02-03T04:05:06.5Z","datacontenttype":"application/json","dataschema":"/x","attributes":{"correlationid":"flow","n":"7","yes":"true"},"data":{"a":1.50}}`,
		},
		"structured text": {
			`{"proof":"none"}`, `{"specversion":"1.0","id":"1","source":"/bank","type":"t","datacontenttype":"text/plain","data":"tea"}`,
			[]string{"Content-Type", structuredType}, `{"id":"1","source":"/bank","type":"t","datacontenttype":"text/plain","data_base64":"dGVh"}`,
		},
		"structured base64": {
			`{"proof":"none"}`, `{"specversion":"1.0","id":"1","source":"/bank","type":"t","data_base64":"eyJhIjoxfQ=="}`,
			[]string{"Content-Type", structuredType}, `{"id":"1","source":"/bank","type":"t","data":{"a":1}}`,
		},
		"batch": {
			`{"proof":"none"}`, `[` + coin + `,` + strings.Replace(coin, "c-1", "c-2", 1) + `]`, []string{"Content-Type", batchType},
			`{"id":"c-1","source":"/bank","type":"coin.found.v1","data":{"jar":"a"}} {"id":"c-2","source":"/bank","type":"coin.found.v1","data":{"jar":"a"}}`,
		},
		"no batch": {`{"proof":"none"}`, `[]`, []string{"Content-Type", batchType}, ``},
		"binary": {
			`{"proof":"none"}`, `{"a":1}`, []string{"Content-Type", "application/json", "ce-specversion", "1.0", "ce-id", "1", "ce-source", "/bank", "ce-type", "t", "ce-subject", "caf%C3%A9%20%22x%22", "ce-note", `"a \"b\""`},
			`{"id":"1","source":"/bank","type":"t","subject":"café \"x\"","datacontenttype":"application/json","attributes":{"note":"a \"b\""},"data":{"a":1}}`,
		},
		"binary, empty": {
			`{"proof":"none"}`, ``, []string{"ce-specversion", "1.0", "ce-id", "1", "ce-source", "/bank", "ce-type", "t"}, `{"id":"1","source":"/bank","type":"t"}`,
		},
		"event grid": {
			`{"proof":"none","format":"eventgrid","sources":["/SUBSCRIPTIONS/x"]}`,
			`[{"id":"1","topic":"/subscriptions/x","subject":"/blobServices/default","eventType":"Microsoft.Storage.BlobCreated","eventTime":"2026-02-03T04:05:06.1234567Z","data":{"sequencer":"0001"},"dataVersion":"2","metadataVersion":"1"}]`,
			[]string{"Content-Type", "application/json", "aeg-event-type", "Notification"},
			`{"id":"1","source":"/subscriptions/x","type":"Microsoft.Storage.BlobCreated","subject":"/blobServices/default","time":"2026-02-03T04:05:06.1234567Z","attributes":{"dataversion":"2"},"data":{"sequencer":"0001"}}`,
		},
		"like github": {
			`{"proof":"none","format":"json","id":"header:X-GitHub-Delivery","type":"header:X-GitHub-Event","subject":"/repository/full_name"}`,
			`{"action":"opened","repository":{"full_name":"deed-dev/deed"}}`,
			[]string{"Content-Type", "application/json", "X-GitHub-Delivery", "72d3162e", "X-GitHub-Event", "issues"},
			`{"id":"72d3162e","source":"/receptions/deposits/senders/bank","type":"issues","subject":"deed-dev/deed","datacontenttype":"application/json","data":{"action":"opened","repository":{"full_name":"deed-dev/deed"}}}`,
		},
		"like stripe": {
			`{"proof":"none","format":"json","id":"/id"}`, `{"id":"evt_1","object":"event","type":"invoice.paid"}`, nil,
			`{"id":"evt_1","source":"/receptions/deposits/senders/bank","type":"invoice.paid","data":{"id":"evt_1","object":"event","type":"invoice.paid"}}`,
		},
		"like a shop": {
			`{"proof":"none","format":"json","id":"/a~1b/0id","type":"text:order"}`, `{"a/b":{"0id":9007199254740993}}`, nil,
			`{"id":"9007199254740993","source":"/receptions/deposits/senders/bank","type":"order","data":{"a/b":{"0id":9007199254740993}}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPorch(t)
			p.put("bank", c.settings)
			for i, stored := range []string{"stored", "repeated"} {
				a := httptry.Ask(t, "POST", p.sender("bank"), c.body, c.headers...)
				if a.Status != 200 || a.Get(stored) != float64(strings.Count(c.want, `"source"`)) {
					t.Errorf("%d: %+v", i, a)
				}
			}
			httptry.Want(t, "stored", strings.Join(p.received(), " "), c.want)
		})
	}
}

// The messages of the official SDK are understood, and become commands.
func TestInboundFromTheSDK(t *testing.T) {
	p := newPorch(t)
	p.put("bank", `{"proof":"none"}`)
	client, err := ce.NewClientHTTP(cehttp.WithTarget(p.sender("bank")))
	if err != nil {
		t.Fatal(err)
	}
	for i, mode := range []func(context.Context) context.Context{ce.WithEncodingBinary, ce.WithEncodingStructured} {
		e := ce.NewEvent()
		e.SetID(fmt.Sprint("sdk ", i, " é"))
		e.SetSource("https://bank.example/coins")
		e.SetType("coin.found.v1")
		e.SetSubject("jar a, “the blue one”")
		e.SetTime(time.Now())
		e.SetExtension("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		if err := e.SetData("application/json", map[string]string{"jar": "a"}); err != nil {
			t.Fatal(err)
		}
		if res := client.Send(mode(t.Context()), e); !ce.IsACK(res) {
			t.Errorf("%d: %v", i, res)
		}
	}
	for i, got := range p.received() {
		if !strings.Contains(got, fmt.Sprintf(`"id":"sdk %d é"`, i)) || !strings.Contains(got, `"subject":"jar a, “the blue one”"`) || !strings.Contains(got, `"data":{"jar":"a"}`) {
			t.Error(got)
		}
	}
	httptry.Until(t, "two coins", func() bool { return httptry.Ask(t, "GET", p.base+"/v1/jar/a", "").Get("state", "Coins") == 2.0 })
	for rec, err := range p.s.Read(t.Context(), "jar/a", store.Range{}) {
		if err != nil || !strings.Contains(string(rec.Meta), `"correlation":"0af7651916cd43dd8448eb211c80319c"`) || !strings.Contains(string(rec.Meta), `"actor":"bank"`) {
			t.Errorf("%s, %v", rec.Meta, err)
		}
	}
}

// signed are the headers of Standard Webhooks.
func signed(t testing.TB, secret, id string, at time.Time, body string) []string {
	t.Helper()
	w, err := standard.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := w.Sign(id, at, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return []string{"webhook-id", id, "webhook-timestamp", fmt.Sprint(at.Unix()), "webhook-signature", sig, "Content-Type", structuredType}
}

func hexHMAC(secret, content string) string {
	mac := hmac.New(sha256.New, []byte(secret))
	io.WriteString(mac, content)
	return hex.EncodeToString(mac.Sum(nil))
}

// Only the sender can send: in each of the ways in which it shows that it is the one.
func TestInboundProofs(t *testing.T) {
	p := newPorch(t)
	send := func(what, name, query string, want int, headers ...string) {
		t.Helper()
		a := httptry.Ask(t, "POST", p.sender(name)+query, coin, append([]string{"Content-Type", structuredType}, headers...)...)
		if a.Status != want || want == 401 && (a.Get("code") != "unauthenticated" || a.Header.Get("WWW-Authenticate") == "") {
			t.Errorf("%s: %+v, want %d", what, a, want)
		}
	}
	now := time.Now()

	first := p.put("signs", `{}`)
	send("signature", "signs", "", 200, signed(t, first, "m", now, coin)...)
	send("nothing", "signs", "", 401)
	send("another body", "signs", "", 401, signed(t, first, "m", now, coin+" ")...)
	send("another secret", "signs", "", 401, signed(t, "whsec_"+base64.StdEncoding.EncodeToString(make([]byte, 32)), "m", now, coin)...)
	send("too old", "signs", "", 401, signed(t, first, "m", now.Add(-5*time.Minute-2*time.Second), coin)...)
	send("old", "signs", "", 200, signed(t, first, "m", now.Add(-5*time.Minute+30*time.Second), coin)...)
	send("too new", "signs", "", 401, signed(t, first, "m", now.Add(6*time.Minute), coin)...)
	forged := signed(t, first, "m", now, coin)
	forged[1] = "other"
	send("another id", "signs", "", 401, forged...)
	forged = signed(t, first, "m", now, coin)
	forged[3] = "1e9"
	send("no time", "signs", "", 401, forged...)
	forged[3], forged[5] = fmt.Sprint(now.Unix()), "v1 v1a, v2,x v1,"+strings.Repeat("=", 44)+" "+forged[5]
	send("several signatures", "signs", "", 200, forged...)

	rotated := httptry.Ask(t, "POST", p.sender("signs")+"/rotate", "")
	second, _ := rotated.Get("once", "secret").(string)
	send("former secret", "signs", "", 200, signed(t, first, "m", now, coin)...)
	send("present secret", "signs", "", 200, signed(t, second, "m", now, coin)...)
	third := "whsec_" + base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("k"), 24))
	given := httptry.Ask(t, "POST", p.sender("signs")+"/rotate", `{"secret":"`+third+`","overlap":"0s"}`)
	if given.Status != 200 || given.Get("once") != nil {
		t.Errorf("%+v", given)
	}
	send("given secret", "signs", "", 200, signed(t, third, "m", now, coin)...)
	send("a secret that was given up", "signs", "", 401, signed(t, second, "m", now, coin)...)
	send("the first", "signs", "", 401, signed(t, first, "m", now, coin)...)

	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	key := "whpk_" + base64.StdEncoding.EncodeToString(public)
	if once := p.put("pair", `{"public_keys":["whpk_`+base64.StdEncoding.EncodeToString(make([]byte, 32))+`","`+key+`"]}`); once != "" {
		t.Errorf("a secret was made: %s", once)
	}
	pair := signed(t, first, "m", now, coin)
	send("hmac with a pair of keys", "pair", "", 401, pair...)
	pair[5] = "v1a," + base64.StdEncoding.EncodeToString(ed25519.Sign(private, []byte("m."+pair[3]+"."+coin)))
	send("ed25519", "pair", "", 200, pair...)
	send("ed25519 for another", "signs", "", 401, pair...)

	hub := p.put("hub", `{"proof":"hub"}`)
	send("hub", "hub", "", 200, "X-Hub-Signature-256", "sha256="+hexHMAC(hub, coin))
	send("hub, another secret", "hub", "", 401, "X-Hub-Signature-256", "sha256="+hexHMAC("x", coin))
	send("hub, nothing", "hub", "", 401)
	send("hub, no hex", "hub", "", 401, "X-Hub-Signature-256", "sha256=xyz")

	stripe := p.put("stripe", `{"proof":"stripe","secret":"whsec_0123456789abcdef"}`)
	httptry.Want(t, "a secret that was given is not shown", stripe, "")
	stripe = "whsec_0123456789abcdef"
	at := fmt.Sprint(now.Unix())
	send("stripe", "stripe", "", 200, "Stripe-Signature", "t="+at+",v1=00ff,v0=1, v1="+hexHMAC(stripe, at+"."+coin))
	send("stripe, old", "stripe", "", 401, "Stripe-Signature", "t="+fmt.Sprint(now.Unix()-400)+",v1="+hexHMAC(stripe, fmt.Sprint(now.Unix()-400)+"."+coin))
	send("stripe, another time", "stripe", "", 401, "Stripe-Signature", "t="+fmt.Sprint(now.Unix()+1)+",v1="+hexHMAC(stripe, at+"."+coin))
	send("stripe, nothing", "stripe", "", 401)

	bearer := p.put("bearer", `{"proof":"secret"}`)
	send("bearer", "bearer", "", 200, "Authorization", "Bearer "+bearer)
	send("another bearer", "bearer", "", 401, "Authorization", "Bearer "+bearer+"x")
	send("no bearer", "bearer", "", 401)
	own := p.put("own", `{"proof":"secret","header":"X-Api-Token"}`)
	send("own header", "own", "", 200, "X-Api-Token", own)
	send("in another header", "own", "", 401, "Authorization", "Bearer "+own)
	code := p.put("code", `{"proof":"secret","query":"code"}`)
	send("in the address", "code", "?other=1&code="+code, 200)
	send("another in the address", "code", "?code="+code[1:], 401)
	send("in a header", "code", "", 401, "Authorization", "Bearer "+code)

	p.put("anybody", `{"proof":"none"}`)
	send("anybody", "anybody", "", 200)
	send("nobody", "nobody", "", 404)
	if got := len(p.received()); got != 1 {
		t.Errorf("%d messages are stored", got)
	}
}

// Bad requests are told so, and never are a defect of the server.
func TestBadInbound(t *testing.T) {
	p := newPorch(t)
	for name, settings := range map[string]string{
		"any": `{"doc":""}`, "grid": `{"format":"eventgrid","sources":["/t"]}`, "plain": `{"format":"json","id":"/id"}`, "own": `{"sources":["/bank"]}`,
	} {
		p.put(name, strings.Replace(settings, "{", `{"proof":"none",`, 1))
	}
	ce := func(change ...string) string { return strings.NewReplacer(change...).Replace(coin) }
	grid := `[{"id":"1","topic":"/t","eventType":"t","data":{}}]`
	binary := func(change ...string) []string {
		return append([]string{"ce-specversion", "1.0", "ce-id", "1", "ce-source", "/", "ce-type", "t"}, change...)
	}
	check := "[{" + `"id":"1","topic":"/t","eventType":"Microsoft.EventGrid.SubscriptionValidationEvent","data":`
	long := strings.Repeat("x", 2000)
	for i, c := range []struct {
		sender, media, body string
		headers             []string
		status              int
		code                string
	}{
		{"any", "", coin, nil, 415, "unsupported_media_type"},
		{"any", "application/json", coin, nil, 415, "unsupported_media_type"},
		{"any", "application/cloudevents+avro", coin, nil, 415, "unsupported_media_type"},
		{"any", structuredType + "; charset=utf-16", coin, nil, 415, "unsupported_media_type"},
		{"any", structuredType, coin, []string{"Content-Encoding", "gzip"}, 415, "unsupported_media_type"},
		{"any", structuredType, "", nil, 400, "invalid"},
		{"any", structuredType, "null", nil, 400, "invalid"},
		{"any", structuredType, "[" + coin + "]", nil, 400, "invalid"},
		{"any", structuredType, coin[:40], nil, 400, "invalid"},
		{"any", structuredType, coin + coin, nil, 400, "invalid"},
		{"any", structuredType, ce(`"id":"c-1",`, ``), nil, 400, "invalid"},
		{"any", structuredType, ce(`"id"`, `"id":"x","id"`), nil, 400, "invalid"},
		{"any", structuredType, ce(`"c-1"`, `{}`), nil, 400, "invalid"},
		{"any", structuredType, ce(`"c-1"`, `""`), nil, 400, "invalid"},
		{"any", structuredType, ce(`"1.0"`, `"0.3"`), nil, 400, "invalid"},
		{"any", structuredType, ce(`"specversion":"1.0",`, ``), nil, 400, "invalid"},
		{"any", structuredType, ce(`"id"`, `"time":"yesterday","id"`), nil, 400, "invalid"},
		{"any", structuredType, ce(`"id"`, `"Trace":"x","id"`), nil, 400, "invalid"},
		{"any", structuredType, ce(`"id"`, `"data_base64":"eA==","id"`), nil, 400, "invalid"},
		{"any", structuredType, ce(`"data":{"jar":"a"}`, `"data_base64":"?"`), nil, 400, "invalid"},
		{"any", structuredType, ce(`{"jar":"a"}`, strings.Repeat("[", 100)+strings.Repeat("]", 100)), nil, 400, "invalid"},
		{"any", structuredType, ce("c-1", long), nil, 400, "invalid"},
		{"any", structuredType, ce("c-1", "\xff"), nil, 400, "invalid"},
		{"any", structuredType, ce("c-1", `\u0000`), nil, 400, "invalid"},
		{"any", structuredType, `{"specversion":"1.0","id":"big","source":"/","type":"t","data":"` + strings.Repeat("x", 1<<20) + `"}`, nil, 413, "too_large"},
		{"any", batchType, coin, nil, 400, "invalid"},
		{"any", batchType, "[" + coin + ",1]", nil, 400, "invalid"},
		{"any", batchType, "[" + coin + "," + ce(`"id":"c-1",`, ``) + "]", nil, 400, "invalid"},
		{"any", batchType, "[" + strings.Repeat("{},", 5000) + "{}]", nil, 400, "invalid"},
		{"any", "text/plain", "x", binary("ce-id", ""), 400, "invalid"},
		{"any", "text/plain", "x", binary("ce-specversion", "2.0"), 400, "invalid"},
		{"any", "text/plain", "x", binary("ce-subject", "%zz"), 400, "invalid"},
		{"any", "text/plain", "x", binary("ce-datacontenttype", "text/html"), 400, "invalid"},
		{"any", "text/plain", "x", binary("ce-my-own", "x"), 400, "invalid"},
		{"any", "text/plain", "x", binary("ce-time", "x"), 400, "invalid"},
		{"any", "text/plain", "x", binary("ce-type", "%00"), 400, "invalid"},
		{"any", long, "x", nil, 415, "unsupported_media_type"},
		{"own", structuredType, ce(`"/bank"`, `"/till"`), nil, 403, "forbidden"},
		{"own", batchType, "[" + coin + "," + ce(`"/bank"`, `"/till"`) + "]", nil, 403, "forbidden"},
		{"grid", "application/json", "{}", nil, 400, "invalid"},
		{"grid", "application/json", "[[]]", nil, 400, "invalid"},
		{"grid", "application/json", `[{"id":1}]`, nil, 400, "invalid"},
		{"grid", "application/json", strings.Replace(grid, `"id":"1",`, "", 1), nil, 400, "invalid"},
		{"grid", "application/json", strings.Replace(grid, `"/t"`, `"/u"`, 1), nil, 403, "forbidden"},
		{"grid", "application/json", strings.Replace(grid, `"id"`, `"eventTime":"x","id"`, 1), nil, 400, "invalid"},
		{"grid", "application/json", grid, []string{"aeg-event-type", "SubscriptionValidation"}, 400, "invalid"},
		{"grid", "application/json", check + `{}}]`, nil, 400, "invalid"},
		{"grid", "application/json", check + `7}]`, nil, 400, "invalid"},
		{"grid", "application/json", strings.Replace(check, `"/t"`, `"/u"`, 1) + `{"validationCode":"x"}}]`, nil, 403, "forbidden"},
		{"plain", "application/json", ``, nil, 400, "invalid"},
		{"plain", "application/json", `{"id":"1"}`, nil, 400, "invalid"},
		{"plain", "application/json", `{"id":{},"type":"t"}`, nil, 400, "invalid"},
		{"plain", "application/json", `{"id":"","type":"t"}`, nil, 400, "invalid"},
		{"plain", "application/json", `{"id":"` + long + `","type":"t"}`, nil, 400, "invalid"},
		{"plain", "application/json", strings.Repeat(`{"id":`, 100), nil, 400, "invalid"},
		{"plain", "application/x-www-form-urlencoded", `payload=%7B%7D`, nil, 400, "invalid"},
		{"none", structuredType, coin, nil, 404, "not_found"},
	} {
		status, problem := raw(t, p.base, "POST", "/v1/receptions/deposits/senders/"+c.sender, c.body, append([]string{"Content-Type", c.media}, c.headers...)...)
		if status != c.status || problem.Code != c.code || problem.Detail == "" {
			t.Errorf("%d: %s %.100s %v: %d %+v, want %d %s", i, c.media, c.body, c.headers, status, problem, c.status, c.code)
		}
	}
	for i, c := range []struct {
		method, path, body string
		status             int
	}{
		{"PUT", "/v1/receptions/none/senders/a", `{}`, 404},
		{"PUT", "/v1/receptions/deposits/senders/A", `{}`, 400},
		{"PUT", "/v1/receptions/deposits/senders/a", `{"format":"xml"}`, 400},
		{"PUT", "/v1/receptions/deposits/senders/a", `{"proof":"trust"}`, 400},
		{"PUT", "/v1/receptions/deposits/senders/a", `{"prof":"none"}`, 400},
		{"PUT", "/v1/receptions/deposits/senders/a", `{"secret":"x"}`, 400},
		{"PUT", "/v1/receptions/deposits/senders/a", `{"secret":"whsec_eA=="}`, 400},
		{"PUT", "/v1/receptions/deposits/senders/a", `{"proof":"hub","secret":"short"}`, 400},
		{"PUT", "/v1/receptions/deposits/senders/a", `{"proof":"none","secret":"0123456789abcdef"}`, 400},
		{"PUT", "/v1/receptions/deposits/senders/a", `{"public_keys":["whpk_eA=="]}`, 400},
		{"PUT", "/v1/receptions/deposits/senders/a", `{"proof":"hub","public_keys":["x"]}`, 400},
		{"PUT", "/v1/receptions/deposits/senders/a", `{"header":"X-A"}`, 400},
		{"PUT", "/v1/receptions/deposits/senders/a", `{"proof":"secret","header":"X A"}`, 400},
		{"PUT", "/v1/receptions/deposits/senders/a", `{"proof":"secret","header":"X-A","query":"a"}`, 400},
		{"PUT", "/v1/receptions/deposits/senders/a", `{"proof":"secret","query":"a b"}`, 400},
		{"PUT", "/v1/receptions/deposits/senders/a", `{"id":"/id"}`, 400},
		{"PUT", "/v1/receptions/deposits/senders/a", `{"format":"json","id":"id"}`, 400},
		{"PUT", "/v1/receptions/deposits/senders/a", `{"format":"json","id":"/a~2"}`, 400},
		{"PUT", "/v1/receptions/deposits/senders/a", `{"format":"json","type":"header:a b"}`, 400},
		{"PUT", "/v1/receptions/deposits/senders/a", `{"format":"json","type":"text:"}`, 400},
		{"PUT", "/v1/receptions/deposits/senders/a", `{"sources":[""]}`, 400},
		{"PUT", "/v1/receptions/deposits/senders/a", `{"rate":-1}`, 400},
		{"POST", "/v1/receptions/deposits/senders/any/rotate", `{}`, 400},
		{"POST", "/v1/receptions/deposits/senders/any/rotate", `{"overlap":"721h"}`, 400},
		{"POST", "/v1/receptions/deposits/senders/any/rotate", `{"overlap":"soon"}`, 400},
		{"POST", "/v1/receptions/deposits/senders/none/rotate", `{}`, 404},
		{"POST", "/v1/receptions/deposits/senders/none/test", `{}`, 404},
		{"GET", "/v1/receptions/deposits/senders/none", ``, 404},
		{"GET", "/v1/receptions/none/senders", ``, 404},
		{"DELETE", "/v1/receptions/deposits/senders/none", ``, 404},
		{"POST", "/v1/receptions/none/messages", coin, 404},
	} {
		status, problem := raw(t, p.base, c.method, c.path, c.body, "Content-Type", structuredType)
		if status != c.status || problem.Detail == "" {
			t.Errorf("%d: %s %s %s: %d %+v, want %d", i, c.method, c.path, c.body, status, problem, c.status)
		}
	}
	if got := p.received(); len(got) > 0 {
		t.Errorf("stored: %v", got)
	}
}

// Event Grid and CloudEvents senders are told that their messages are wanted, if they are.
func TestInboundHandshakes(t *testing.T) {
	p := newPorch(t)
	code := p.put("grid", `{"format":"eventgrid","proof":"secret","query":"code","sources":["/t"],"origins":["eventgrid.azure.net"],"rate":120}`)
	body := `[{"id":"1","topic":"/T","subject":"","eventType":"Microsoft.EventGrid.SubscriptionValidationEvent","eventTime":"2026-02-03T04:05:06Z","data":{"validationCode":"512d38b6","validationUrl":"https://x.example/validate"},"dataVersion":"2"}]`
	a := httptry.Ask(t, "POST", p.sender("grid")+"?code="+code, body, "aeg-event-type", "SubscriptionValidation", "Content-Type", "application/json; charset=utf-8")
	if a.Status != 200 || len(a.Body) != 1 || a.Get("validationResponse") != "512d38b6" {
		t.Errorf("%+v", a)
	}
	httptry.Want(t, "without the secret", httptry.Ask(t, "POST", p.sender("grid"), body, "aeg-event-type", "SubscriptionValidation").Status, 401)
	for origin, want := range map[string]int{"eventgrid.azure.net": 200, "EventGrid.azure.net": 200, "evil.example": 403, "": 400} {
		r, err := http.NewRequestWithContext(t.Context(), "OPTIONS", p.sender("grid")+"?code="+code, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("WebHook-Request-Origin", origin)
		r.Header.Set("WebHook-Request-Rate", "1000")
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		allowed, rate := res.Header.Get("WebHook-Allowed-Origin"), res.Header.Get("WebHook-Allowed-Rate")
		if res.StatusCode != want || want == 200 && (allowed != origin || rate != "120" || !strings.Contains(res.Header.Get("Allow"), "POST")) || want != 200 && allowed+rate != "" {
			t.Errorf("%q: %s %v", origin, res.Status, res.Header)
		}
	}
	if got := p.received(); len(got) > 0 {
		t.Errorf("stored: %v", got)
	}
}

// What cannot be stored now is never answered with 4xx: the sender would give it up.
func TestInboundNotNow(t *testing.T) {
	s := faulty.New(mem.New())
	srv := httptest.NewServer(httpapi.New(deedtest.StartOn(t, s, jars()), httpapi.Options{}))
	t.Cleanup(srv.Close)
	p := porch{t, srv.URL, s}
	p.put("bank", `{"proof":"none"}`)
	for _, why := range []error{store.ErrUnavailable, store.ErrUnknown} {
		s.Why = why
		s.Fail("$message/", faulty.Always)
		a := httptry.Ask(t, "POST", p.sender("bank"), coin, "Content-Type", structuredType)
		if a.Status != 503 || a.Get("code") != "unavailable" || a.Header.Get("Retry-After") == "" {
			t.Errorf("%v: %+v", why, a)
		}
	}
	s.Repair()
	httptry.Want(t, "then", httptry.Ask(t, "POST", p.sender("bank"), coin, "Content-Type", structuredType).Get("stored"), 1)

	without := httptest.NewServer(httpapi.New(deedtest.StartOn(t, s), httpapi.Options{})) // another version of the program
	t.Cleanup(without.Close)
	p.base = without.URL
	httptry.Want(t, "no reception", httptry.Ask(t, "POST", p.sender("bank"), coin, "Content-Type", structuredType).Status, 503)
}

// Senders are data: they are made, shown without secrets, put back, tried and ended.
func TestSenders(t *testing.T) {
	s := mem.New()
	g := newGate(t, s, deedtest.StartOn(t, s, jars()))
	_, admin := g.key(t, "root", auth.RoleAdmin)
	_, saver := g.key(t, "ann", "saver")
	path := "/v1/receptions/deposits/senders/bank"
	do := func(method, path, body string, want int) string {
		t.Helper()
		status, _, got := ask(t, g.base, method, path, body, admin, "Content-Type", structuredType)
		if status != want {
			t.Fatalf("%s %s: %d %s", method, path, status, got)
		}
		return strings.TrimSpace(string(got))
	}
	var made httpapi.MadeSender
	if err := json.Unmarshal([]byte(do("PUT", path, `{"doc":"Our bank.","proof":"hub"}`, 200)), &made); err != nil {
		t.Fatal(err)
	}
	secret := made.Once["secret"]
	if len(secret) < 40 || made.By != "root" || made.Created.IsZero() {
		t.Errorf("%+v", made)
	}
	shown := do("GET", path, "", 200)
	for _, x := range []string{shown, do("GET", "/v1/senders", "", 200), do("GET", "/v1/receptions/deposits/senders", "", 200)} {
		if strings.Contains(x, secret) || !strings.Contains(x, `"secret":"***"`) || !strings.Contains(x, `"doc":"Our bank."`) {
			t.Error(x)
		}
	}
	status := func(secret string) int {
		t.Helper()
		code, _, _ := ask(t, g.base, "POST", path, coin, "", "Content-Type", structuredType, "X-Hub-Signature-256", "sha256="+hexHMAC(secret, coin))
		return code
	}
	httptry.Want(t, "proven", status(secret), 200)
	if again := do("PUT", path, `{"proof":"hub","secret":"***","rate":5}`, 200); strings.Contains(again, "once") || strings.Contains(again, "Our bank") {
		t.Error(again)
	}
	httptry.Want(t, "put back", status(secret), 200)
	do("PUT", path, `{"proof":"hub","secret":"0123456789abcdef"}`, 200)
	httptry.Want(t, "replaced", status(secret), 401)
	httptry.Want(t, "replaced by", status("0123456789abcdef"), 200)

	tried := do("POST", path+"/test", coin, 200)
	httptry.Want(t, "tried", tried, `{"messages":[{"id":"c-1","source":"/bank","type":"coin.found.v1","commands":["jar.drop on jar/a"]}]}`)
	if other := do("POST", path+"/test", strings.Replace(coin, "found", "lost", 1), 200); !strings.Contains(other, "does not know messages of the type") {
		t.Error(other)
	}
	do("DELETE", path, "", 204)
	httptry.Want(t, "ended", status("0123456789abcdef"), 404)
	var acts []string
	for rec, err := range s.Read(t.Context(), "$audit/senders", store.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		acts = append(acts, rec.Type)
		if !strings.Contains(string(rec.Meta), `"root"`) || string(rec.Data) != `{"subject":"deposits/bank"}` {
			t.Errorf("%s %s", rec.Meta, rec.Data)
		}
	}
	httptry.Want(t, "acts", acts, "[sender-made sender-changed sender-changed sender-deleted]")

	// Whom this program knows need not be a sender.
	code, _, body := ask(t, g.base, "POST", "/v1/receptions/deposits/messages", strings.Replace(coin, "c-1", "c-2", 1), saver, "Content-Type", structuredType)
	if code != 200 || !strings.Contains(string(body), `"stored":1`) {
		t.Errorf("%d %s", code, body)
	}
	if list := do("GET", "/v1/receptions", "", 200); list != `{"receptions":[{"name":"deposits","types":["coin.found.v1"],"roles":["saver"]}]}` {
		t.Error(list)
	}
}
