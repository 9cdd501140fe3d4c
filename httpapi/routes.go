package httpapi

import "net/http"

// An access says who may use a route, when access is checked. A route without
// one is for administrators.
type access string

const (
	anybody   access = "anybody"  // also without a key or token
	anyone    access = "anyone"   // with a key or token; what it may do is decided further on
	viewers   access = "viewers"  // whom the view names, else readers
	readers   access = "reader"   //
	operators access = "operator" //
	admins    access = "admin"    //
	ruled     access = "ruled"    // whom the command names, see deed.Rules: the runtime checks
)

// A route is what the API does for a pattern of requests.
type route struct {
	pattern string
	access  access
	serve   handler
	own     bool // also for the actor of the command that {id} names
	endless bool // the answer has no end: access is checked again while it lasts
}

// routes is the one table of what there is, and for whom.
func (a *api) routes() []route {
	return []route{
		{pattern: "POST /v1/{aggregate}/{id}/{command}", access: ruled, serve: a.command},
		{pattern: "POST /v1/{aggregate}/{command}", access: ruled, serve: a.command},
		{pattern: "GET /v1/{aggregate}/{id}", access: readers, serve: a.state},

		{pattern: "GET /v1/commands", access: readers, serve: a.commands},
		{pattern: "GET /v1/commands/{id}", access: readers, own: true, serve: a.commandStatus},
		{pattern: "GET /v1/commands/{id}/live", access: readers, own: true, serve: a.liveCommand, endless: true},
		{pattern: "POST /v1/commands/{id}/cancel", access: operators, own: true, serve: a.cancelCommand},
		{pattern: "POST /v1/commands/{id}/resume", access: operators, own: true, serve: a.resumeCommand},
		{pattern: "POST /v1/commands/{id}/retry", access: operators, own: true, serve: a.resumeCommand},
		{pattern: "POST /v1/commands/{id}/correct", access: admins, own: true, serve: a.correctCommand},

		{pattern: "GET /v1/streams/{category}/{id...}", access: readers, serve: a.stream},
		{pattern: "GET /v1/events", access: readers, serve: a.events},
		{pattern: "GET /v1/events/live", access: readers, serve: a.live, endless: true},

		{pattern: "GET /v1/views/{view}", access: viewers, serve: a.documents},
		{pattern: "GET /v1/views/{view}/{key}", access: viewers, serve: a.document},

		{pattern: "GET /v1/nodes", access: operators, serve: a.nodes},
		{pattern: "GET /v1/followers", access: operators, serve: a.followers},
		{pattern: "POST /v1/followers/{name}/pause", access: operators, serve: a.pause},
		{pattern: "POST /v1/followers/{name}/resume", access: operators, serve: a.resume},
		{pattern: "POST /v1/followers/{name}/rebuild", access: operators, serve: a.rebuild},

		{pattern: "GET /v1/dead-letters", access: operators, serve: a.deadLetters},
		{pattern: "GET /v1/dead-letters/{id}", access: operators, serve: a.deadLetter},
		{pattern: "POST /v1/dead-letters/{id}/redrive", access: operators, serve: a.redrive},
		{pattern: "POST /v1/dead-letters/{id}/discard", access: operators, serve: a.discard},

		{pattern: "GET /v1/keys", access: admins, serve: a.listKeys},
		{pattern: "POST /v1/keys", access: admins, serve: a.createKey},
		{pattern: "POST /v1/keys/{id}/revoke", access: admins, serve: a.revokeKey},
		{pattern: "POST /v1/keys/{id}/rotate", access: admins, serve: a.rotateKey},

		{pattern: "GET /v1", access: readers, serve: a.describe},
		{pattern: "GET /metrics", access: operators, serve: a.measurements},
		{pattern: "GET /livez", access: anybody, serve: a.alive},
		{pattern: "GET /readyz", access: anybody, serve: a.ready},
		{pattern: "/", access: anyone, serve: a.nowhere},
	}
}

func (a *api) measurements(w http.ResponseWriter, r *http.Request) error {
	a.metrics.handler().ServeHTTP(w, r)
	return nil
}
