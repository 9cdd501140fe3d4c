package sinks

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/store"
	"github.com/deed-dev/deed/store/mem"
)

var all = []string{deed.OnError, deed.OnStep, deed.OnCompletion}

func told(messages []Message) string {
	var out []string
	for _, m := range messages {
		out = append(out, fmt.Sprintf("%s %s %s %s", m.On, m.Event.Type, m.ID, m.Command.State))
	}
	return strings.Join(out, "; ")
}

// local allows callbacks to this machine.
func local() *Hosts { return NewHosts([]string{"127.0.0.1"}, false) }

// Each callback is told what it asked for, in order and once, however the
// others of the same command do.
func TestCallbacks(t *testing.T) {
	h := local()
	r, _ := start(t, mem.New(), h.Allow, quickly(Callbacks(h)...)...)
	x, errorsOnly, broken := receive(t), receive(t), receive(t)
	x.answers = []int{500, 503, 204, 500}
	for range 1000 {
		broken.answers = append(broken.answers, 500)
	}
	r.block(true)
	r.submit(deed.Call{ID: "k", Actor: "ann", Callbacks: []deed.Callback{
		{URL: broken.URL, On: all}, {URL: x.URL, On: all}, {URL: errorsOnly.URL, On: []string{deed.OnError}},
	}}, trip{"sea"})
	r.submit(deed.Call{ID: "nobody"}, trip{"sea"})
	r.becomes("k", deed.CommandFailed)
	r.block(false)
	if err := r.rt.Commands().Resume(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	r.becomes("k", deed.CommandCompleted)
	r.eventually("four messages", func() bool { return len(x.messages()) >= 4 })
	var ids []string
	for rec, err := range r.store.Read(t.Context(), "$command/k", store.Range{}) {
		if err != nil {
			t.Fatal(err)
		}
		switch rec.Type {
		case "failed", "step-completed", "completed":
			ids = append(ids, fmt.Sprintf("$command/k:%d", rec.Version))
		}
	}
	want := fmt.Sprintf("step step-completed %s running; error failed %s failed; step step-completed %s running; completion completed %s completed", ids[0], ids[1], ids[2], ids[3])
	if got := told(x.messages()); got != want {
		t.Errorf("\ngot  %s\nwant %s", got, want)
	}
	r.eventually("an error", func() bool { return len(errorsOnly.messages()) >= 1 })
	m := errorsOnly.messages()[0]
	if m.Command.Reason != "the road is blocked" || m.Command.Actor != "ann" || m.Event.Time.IsZero() || len(m.Event.Data) < 3 {
		t.Errorf("%+v", m)
	}
	r.dead("callbacks-1", 1)
	r.eventually("all keys", func() bool { x.mu.Lock(); defer x.mu.Unlock(); return len(x.keys) >= 7 })
	if got, want := strings.Join(x.keys, " "), strings.Join([]string{ids[0], ids[0], ids[0], ids[1], ids[1], ids[2], ids[3]}, " "); got != want {
		t.Errorf("keys\n got %s\nwant %s", got, want)
	}
	if n := len(errorsOnly.messages()); n != 1 {
		t.Errorf("%d messages for who asked for errors", n)
	}
}

// A command of one entity is stored first if it has callbacks.
func TestCallbackOfPlainCommand(t *testing.T) {
	h := local()
	r, _ := start(t, mem.New(), h.Allow, quickly(Callbacks(h)...)...)
	x := receive(t)
	for id, n := range map[string]int{"yes": 1, "no": -5} {
		ctx := deed.With(t.Context(), deed.Call{ID: id, Callbacks: []deed.Callback{{URL: x.URL, On: []string{deed.OnError, deed.OnCompletion}}}})
		receipt, err := purses.Execute(ctx, r.rt, id, move{n})
		if err != nil || !receipt.Pending {
			t.Fatalf("%+v, %v", receipt, err)
		}
	}
	r.eventually("two messages", func() bool { return len(x.messages()) == 2 })
	for _, m := range x.messages() {
		want := map[string]string{"yes": "completion completed $command/yes:2 completed", "no": "error rejected $command/no:2 rejected"}[m.Command.ID]
		if got := told([]Message{m}); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	// The events are there when the message is.
	if _, version, err := purses.Load(t.Context(), r.rt, "yes"); err != nil || version != 1 {
		t.Error(version, err)
	}
}

// Nothing is called that was not allowed, whatever its name resolves to.
func TestHosts(t *testing.T) {
	for name, c := range map[string]struct {
		hosts *Hosts
		url   string
		ok    bool
	}{
		"named":                      {NewHosts([]string{"Tracker.example"}, false), "https://tracker.EXAMPLE/x", true},
		"named, any port":            {NewHosts([]string{"tracker.example"}, false), "http://tracker.example:9999/x", true},
		"named with its port":        {NewHosts([]string{"tracker.example:443"}, false), "https://tracker.example/x", true},
		"named with another port":    {NewHosts([]string{"tracker.example:443"}, false), "http://tracker.example/x", false},
		"another":                    {NewHosts([]string{"tracker.example"}, false), "https://evil.example/tracker.example", false},
		"below the named":            {NewHosts([]string{"tracker.example"}, false), "https://a.tracker.example/", false},
		"none":                       {NewHosts(nil, false), "https://tracker.example/", false},
		"any":                        {NewHosts(nil, true), "https://tracker.example/x", true},
		"any, other port":            {NewHosts(nil, true), "https://tracker.example:22/x", false},
		"any, loopback":              {NewHosts(nil, true), "http://127.0.0.1/", false},
		"any, loopback v6":           {NewHosts(nil, true), "http://[::1]/", false},
		"any, mapped":                {NewHosts(nil, true), "http://[::ffff:127.0.0.1]/", false},
		"any, private":               {NewHosts(nil, true), "http://10.1.2.3/", false},
		"any, link-local":            {NewHosts(nil, true), "http://169.254.169.254/latest", false},
		"any, public address":        {NewHosts(nil, true), "http://93.184.216.34/", true},
		"any, but loopback is named": {NewHosts([]string{"127.0.0.1:8080"}, true), "http://127.0.0.1:8080/", true},
	} {
		err := c.hosts.Allow(deed.Callback{URL: c.url})
		if err == nil != c.ok || err != nil && !isInvalid(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A name that looks public and resolves to this machine is found out when it is
// connected to. What can be known before is refused when the command comes.
func TestForgedName(t *testing.T) {
	h := NewHosts(nil, true)
	r, _ := start(t, mem.New(), h.Allow, quickly(Callbacks(h)...)...)
	ln, err := net.Listen("tcp", "127.0.0.1:80")
	if err == nil { // else another server has it, which will do as well
		srv := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was called") })}
		go srv.Serve(ln)
		defer srv.Close()
	}
	r.submit(deed.Call{ID: "k", Callbacks: []deed.Callback{{URL: "http://localhost/x", On: all}}}, trip{"sea"})
	l := r.dead("callbacks-1", 1)[0]
	if l.Attempts != 1 || !strings.Contains(l.Reason, "prohibited") {
		t.Errorf("%+v", l)
	}
	_, err = r.trips().Submit(deed.With(t.Context(), deed.Call{Callbacks: []deed.Callback{{URL: "http://127.0.0.1/x", On: all}}}), r.rt, "", trip{"sea"})
	if !isInvalid(err) {
		t.Error(err)
	}
}

// A server that has become stricter calls nobody it does not allow now.
func TestStricterSince(t *testing.T) {
	s, x := mem.New(), receive(t)
	r, stop := start(t, s, local().Allow)
	r.submit(deed.Call{ID: "k", Callbacks: []deed.Callback{{URL: x.URL, On: all}}}, trip{"sea"})
	r.becomes("k", deed.CommandCompleted)
	stop()
	h := NewHosts([]string{"elsewhere.example"}, false)
	r, _ = start(t, s, h.Allow, quickly(Callbacks(h)...)...)
	if l := r.dead("callbacks-1", 1)[0]; !strings.Contains(l.Reason, "not allowed") {
		t.Errorf("%+v", l)
	}
	if len(x.keys) > 0 {
		t.Error("it was called")
	}
}
