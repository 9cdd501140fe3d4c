package httpapi

import (
	"net/http"

	"github.com/deed-dev/deed"
)

// An access says who may use a route, when access is checked. A route without
// one is for administrators.
type access string

const (
	anybody   access = "anybody"   // also without a key or token
	anyone    access = "anyone"    // with a key or token; what it may do is decided further on
	viewers   access = "viewers"   // whom the view names, else readers
	askers    access = "askers"    // whom the query names, else readers
	readers   access = "reader"    //
	operators access = "operator"  //
	consumers access = "consumers" // whom the subscription names, and operators
	senders   access = "senders"   // whom the reception names, and operators
	admins    access = "admin"     //
	ruled     access = "ruled"     // whom the command names, see deed.Rules: the runtime checks
)

// A route is what the API does for a pattern of requests.
type route struct {
	pattern string
	access  access
	serve   handler
	own     func(*http.Request) (actor string, err error) // also for this actor; nil: for nobody else
	endless bool                                          // the answer has no end: access is checked again while it lasts
}

// routes is the one table of what there is, and for whom. What a route takes and
// answers is in operations.
func (a *api) routes() []route {
	return []route{
		{pattern: "POST /v1/{aggregate}/{id}/{command}", access: ruled, serve: a.command},
		{pattern: "POST /v1/{aggregate}/{command}", access: ruled, serve: a.command},
		{pattern: "GET /v1/{aggregate}/{id}", access: readers, serve: a.state},

		{pattern: "GET /v1/blame/{aggregate}/{id}", access: readers, serve: a.blame},

		{pattern: "GET /v1/commands", access: readers, serve: a.commands},
		{pattern: "GET /v1/commands/{id}", access: readers, own: a.askedBy, serve: a.commandStatus},
		{pattern: "GET /v1/commands/{id}/live", access: readers, own: a.askedBy, serve: a.liveCommand, endless: true},
		{pattern: "POST /v1/commands/{id}/cancel", access: operators, own: a.askedBy, serve: a.cancelCommand},
		{pattern: "POST /v1/commands/{id}/resume", access: operators, own: a.askedBy, serve: a.resumeCommand},
		{pattern: "POST /v1/commands/{id}/retry", access: operators, own: a.askedBy, serve: a.resumeCommand},
		{pattern: "POST /v1/commands/{id}/correct", access: admins, own: a.askedBy, serve: a.correctCommand},

		{pattern: "POST /v1/sagas/{name}", access: ruled, serve: a.startSaga},
		{pattern: "POST /v1/sagas/{name}/{id}", access: ruled, serve: a.startSaga},
		{pattern: "GET /v1/sagas", access: readers, serve: a.instances("saga")},
		{pattern: "GET /v1/sagas/{name}/{id}", access: readers, own: a.begunBy("saga"), serve: a.instance("saga")},
		{pattern: "GET /v1/sagas/{name}/{id}/live", access: readers, own: a.begunBy("saga"), serve: a.liveInstance("saga"), endless: true},
		{pattern: "POST /v1/sagas/{name}/{id}/cancel", access: ruled, serve: a.repair("saga", "cancel")},
		{pattern: "POST /v1/sagas/{name}/{id}/retry", access: ruled, serve: a.repair("saga", "retry")},
		{pattern: "POST /v1/sagas/{name}/{id}/undo", access: ruled, serve: a.repair("saga", "undo")},
		{pattern: "POST /v1/sagas/{name}/{id}/skip", access: ruled, serve: a.repair("saga", "skip")},
		{pattern: "POST /v1/sagas/{name}/{id}/close", access: ruled, serve: a.repair("saga", "close")},
		{pattern: "POST /v1/sagas/cancel", access: operators, serve: a.repairMany("saga", "cancel")},
		{pattern: "POST /v1/sagas/retry", access: operators, serve: a.repairMany("saga", "retry")},
		{pattern: "POST /v1/sagas/undo", access: operators, serve: a.repairMany("saga", "undo")},

		{pattern: "GET /v1/processes", access: readers, serve: a.instances("process")},
		{pattern: "GET /v1/processes/{name}/{id}", access: readers, own: a.begunBy("process"), serve: a.instance("process")},
		{pattern: "GET /v1/processes/{name}/{id}/live", access: readers, own: a.begunBy("process"), serve: a.liveInstance("process"), endless: true},
		{pattern: "POST /v1/processes/{name}/{id}/cancel", access: ruled, serve: a.repair("process", "cancel")},
		{pattern: "POST /v1/processes/{name}/{id}/retry", access: ruled, serve: a.repair("process", "retry")},
		{pattern: "POST /v1/processes/{name}/{id}/undo", access: ruled, serve: a.repair("process", "undo")},
		{pattern: "POST /v1/processes/{name}/{id}/skip", access: ruled, serve: a.repair("process", "skip")},
		{pattern: "POST /v1/processes/{name}/{id}/close", access: ruled, serve: a.repair("process", "close")},
		{pattern: "POST /v1/processes/cancel", access: operators, serve: a.repairMany("process", "cancel")},
		{pattern: "POST /v1/processes/retry", access: operators, serve: a.repairMany("process", "retry")},
		{pattern: "POST /v1/processes/undo", access: operators, serve: a.repairMany("process", "undo")},

		{pattern: "GET /v1/tasks", access: anyone, serve: a.tasks},
		{pattern: "GET /v1/tasks/{id}", access: anyone, serve: a.task},
		{pattern: "POST /v1/tasks/{id}/claim", access: ruled, serve: a.claim},
		{pattern: "POST /v1/tasks/{id}/release", access: ruled, serve: a.release},
		{pattern: "POST /v1/tasks/{id}/decision", access: ruled, serve: a.decide},

		{pattern: "GET /v1/streams/{category}/{id...}", access: readers, serve: a.stream},
		{pattern: "GET /v1/events", access: readers, serve: a.events},
		{pattern: "GET /v1/events/live", access: readers, serve: a.live, endless: true},

		{pattern: "GET /v1/views/{view}", access: viewers, serve: a.documents},
		{pattern: "GET /v1/views/{view}/{key}", access: viewers, serve: a.document},
		{pattern: "GET /v1/changes/{view}", access: viewers, serve: a.liveView, endless: true},

		{pattern: "GET /v1/groups", access: readers, serve: a.groups},
		{pattern: "GET /v1/groups/{group}", access: viewers, serve: a.members},
		{pattern: "GET /v1/groups/{group}/{key}", access: viewers, serve: a.member},

		{pattern: "GET /v1/queries", access: readers, serve: a.queries},
		{pattern: "POST /v1/queries/{name}", access: askers, serve: a.askQuery},
		{pattern: "GET /v1/queries/{name}/live", access: askers, serve: a.liveQuery, endless: true},
		{pattern: "GET /v1/queries/{name}/runs", access: askers, serve: a.runs},
		{pattern: "GET /v1/queries/{name}/runs/{id}", access: askers, own: a.askedFor, serve: a.run},
		{pattern: "GET /v1/queries/{name}/runs/{id}/live", access: askers, own: a.askedFor, serve: a.liveRun, endless: true},
		{pattern: "POST /v1/queries/{name}/runs/{id}/cancel", access: operators, own: a.askedFor, serve: a.cancelRun},
		{pattern: "GET /v1/rebuilds/{view}", access: operators, serve: a.rebuildStatus},
		{pattern: "GET /v1/rebuilds/{view}/diff", access: operators, serve: a.rebuildDiff},
		{pattern: "POST /v1/rebuilds/{view}", access: operators, serve: a.beginRebuild},
		{pattern: "POST /v1/rebuilds/{view}/switch", access: operators, serve: a.rebuildStep(deed.Rebuilds.Switch)},
		{pattern: "POST /v1/rebuilds/{view}/pause", access: operators, serve: a.rebuildStep(deed.Rebuilds.Pause)},
		{pattern: "POST /v1/rebuilds/{view}/resume", access: operators, serve: a.rebuildStep(deed.Rebuilds.Resume)},
		{pattern: "POST /v1/rebuilds/{view}/cancel", access: operators, serve: a.rebuildStep(deed.Rebuilds.Cancel)},
		{pattern: "POST /v1/rebuilds/{view}/rollback", access: operators, serve: a.rebuildStep(deed.Rebuilds.RollBack)},
		{pattern: "POST /v1/rebuilds/{view}/discard", access: operators, serve: a.rebuildStep(deed.Rebuilds.Discard)},

		{pattern: "GET /v1/topics", access: readers, serve: a.topics},
		{pattern: "GET /v1/topics/{topic}", access: readers, serve: a.topic},
		{pattern: "GET /v1/topics/{topic}/events", access: readers, serve: a.topicEvents},

		{pattern: "GET /v1/subscriptions", access: operators, serve: a.subscriptions},
		{pattern: "GET /v1/topics/{topic}/subscriptions", access: operators, serve: a.subscriptions},
		{pattern: "GET /v1/topics/{topic}/subscriptions/{name}", access: operators, serve: a.subscription},
		{pattern: "PUT /v1/topics/{topic}/subscriptions/{name}", access: admins, serve: a.putSubscription},
		{pattern: "DELETE /v1/topics/{topic}/subscriptions/{name}", access: admins, serve: a.deleteSubscription},
		{pattern: "GET /v1/topics/{topic}/subscriptions/{name}/attempts", access: operators, serve: a.attempts},
		{pattern: "POST /v1/topics/{topic}/subscriptions/{name}/pause", access: operators, serve: a.directSubscription(deed.Subscriptions.Pause)},
		{pattern: "POST /v1/topics/{topic}/subscriptions/{name}/resume", access: operators, serve: a.directSubscription(deed.Subscriptions.Resume)},
		{pattern: "POST /v1/topics/{topic}/subscriptions/{name}/redrive", access: operators, serve: a.redriveSubscription},
		{pattern: "POST /v1/topics/{topic}/subscriptions/{name}/reset", access: admins, serve: a.resetSubscription},
		{pattern: "POST /v1/topics/{topic}/subscriptions/{name}/test", access: operators, serve: a.testSubscription},
		{pattern: "POST /v1/topics/{topic}/subscriptions/{name}/rotate", access: admins, serve: a.rotateSubscription},

		{pattern: "POST /v1/topics/{topic}/subscriptions/{name}/lock", access: consumers, serve: a.lockMessages},
		{pattern: "POST /v1/topics/{topic}/subscriptions/{name}/renew", access: consumers, serve: a.renewMessage},
		{pattern: "POST /v1/topics/{topic}/subscriptions/{name}/complete", access: consumers, serve: a.completeMessage},
		{pattern: "POST /v1/topics/{topic}/subscriptions/{name}/abandon", access: consumers, serve: a.abandonMessage},
		{pattern: "POST /v1/topics/{topic}/subscriptions/{name}/dead-letter", access: consumers, serve: a.buryMessage},
		{pattern: "GET /v1/topics/{topic}/subscriptions/{name}/messages", access: operators, serve: a.messages},
		{pattern: "POST /v1/topics/{topic}/subscriptions/{name}/messages/{id}/redrive", access: operators, serve: a.redriveMessage},
		{pattern: "POST /v1/topics/{topic}/subscriptions/{name}/messages/{id}/discard", access: operators, serve: a.discardMessage},

		{pattern: "GET /v1/receptions", access: readers, serve: a.receptions},
		{pattern: "POST /v1/receptions/{reception}/messages", access: senders, serve: a.sendMessages},
		{pattern: "POST /v1/receptions/{reception}/senders/{name}", access: anybody, serve: a.receive},
		{pattern: "OPTIONS /v1/receptions/{reception}/senders/{name}", access: anybody, serve: a.consent},
		{pattern: "GET /v1/senders", access: operators, serve: a.listSenders},
		{pattern: "GET /v1/receptions/{reception}/senders", access: operators, serve: a.listSenders},
		{pattern: "GET /v1/receptions/{reception}/senders/{name}", access: operators, serve: a.sender},
		{pattern: "PUT /v1/receptions/{reception}/senders/{name}", access: admins, serve: a.putSender},
		{pattern: "DELETE /v1/receptions/{reception}/senders/{name}", access: admins, serve: a.deleteSender},
		{pattern: "POST /v1/receptions/{reception}/senders/{name}/rotate", access: admins, serve: a.rotateSender},
		{pattern: "POST /v1/receptions/{reception}/senders/{name}/test", access: operators, serve: a.testSender},

		{pattern: "GET /v1/nodes", access: operators, serve: a.nodes},
		{pattern: "GET /v1/followers", access: operators, serve: a.followers},
		{pattern: "POST /v1/followers/{name}/pause", access: operators, serve: a.pause},
		{pattern: "POST /v1/followers/{name}/resume", access: operators, serve: a.resume},
		{pattern: "POST /v1/followers/{name}/rebuild", access: operators, serve: a.rebuild},
		{pattern: "POST /v1/followers/{name}/forget", access: admins, serve: a.forget},
		{pattern: "POST /v1/compaction", access: admins, serve: a.compact},

		{pattern: "GET /v1/dead-letters", access: operators, serve: a.deadLetters},
		{pattern: "GET /v1/dead-letters/groups", access: operators, serve: a.letterGroups},
		{pattern: "POST /v1/dead-letters/redrive", access: operators, serve: a.beginJob(deed.DoRedrive)},
		{pattern: "POST /v1/dead-letters/discard", access: operators, serve: a.beginJob(deed.DoDiscard)},
		{pattern: "GET /v1/dead-letters/jobs", access: operators, serve: a.letterJobs},
		{pattern: "GET /v1/dead-letters/jobs/{id}", access: operators, serve: a.letterJob},
		{pattern: "POST /v1/dead-letters/jobs/{id}/cancel", access: operators, serve: a.cancelJob},
		{pattern: "GET /v1/dead-letters/{id}", access: operators, serve: a.deadLetter},
		{pattern: "POST /v1/dead-letters/{id}/edit", access: operators, serve: a.editLetter},
		{pattern: "POST /v1/dead-letters/{id}/redrive", access: operators, serve: a.redrive},
		{pattern: "POST /v1/dead-letters/{id}/discard", access: operators, serve: a.discard},

		{pattern: "GET /v1/keys", access: admins, serve: a.listKeys},
		{pattern: "POST /v1/keys", access: admins, serve: a.createKey},
		{pattern: "POST /v1/keys/{id}/revoke", access: admins, serve: a.revokeKey},
		{pattern: "POST /v1/keys/{id}/rotate", access: admins, serve: a.rotateKey},

		{pattern: "GET /v1/map", access: readers, serve: a.drawing},
		{pattern: "GET /v1/openapi.json", access: readers, serve: a.openAPI},
		{pattern: "GET /v1/asyncapi.json", access: readers, serve: a.asyncAPI},
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
