package httpapi

import (
	"encoding/json"
	"net/http"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/auth"
	"github.com/deed-dev/deed/internal/diagram"
	"github.com/deed-dev/deed/internal/schema"
)

// An operation describes a route that is the same in every program, for the
// OpenAPI document.
type operation struct {
	id, tag, summary string
	query            []string // parameters, see sharedParameters
	headers          []string
	body             any      // a prototype; nil = none
	takes            []string // other types of media than JSON that the body may be of
	answers          []reply
}

// A reply is an answer that is a success.
type reply struct {
	status int
	of     any    // a value of the type of its body; nil = text, or nothing without media
	or     any    // another one that it may be of; nil = none
	media  string // default application/json
}

func ok(of any) []reply       { return []reply{{status: http.StatusOK, of: of}} }
func accepted(of any) []reply { return []reply{{status: http.StatusAccepted, of: of}} }
func nothing() []reply        { return []reply{{status: http.StatusOK}} }
func done() []reply           { return []reply{{status: http.StatusNoContent}} }
func sent() []reply           { return []reply{{status: http.StatusOK, media: "text/event-stream"}} }

// Bodies that are read where they are needed only.
type (
	reasonBody struct {
		Reason string `json:"reason,omitempty"`
	}
	decisionBody struct {
		Choice string          `json:"choice"`
		Reason string          `json:"reason,omitempty"`
		Data   json.RawMessage `json:"data,omitempty"`
	}
	resetBody struct {
		Start  string `json:"start"`
		DryRun bool   `json:"dry_run,omitzero"`
	}
	overlapBody struct {
		Overlap string `json:"overlap,omitempty"`
	}
	compactionBody struct {
		OlderThan string `json:"older_than"`
		DryRun    bool   `json:"dry_run,omitzero"`
	}
	repairingBody struct {
		Reason string `json:"reason,omitempty"`
		Step   string `json:"step,omitempty"`
	}
	dryBody struct {
		DryRun bool `json:"dry_run,omitzero"`
	}
	secretBody struct {
		Secret  string `json:"secret,omitempty"`
		Overlap string `json:"overlap,omitempty"`
	}
	healthBody struct {
		Status string `json:"status"`
	}
)

// Parameters that several operations have.
var (
	pageQuery  = []string{"sort", "limit", "after"}
	nowAndThen = []string{"at", "position", "effective", "min-position", "wait"}
	who        = []string{"X-Actor", "X-Correlation-Id", "X-Causation-Id"}
)

func params(lists ...[]string) (all []string) {
	for _, l := range lists {
		all = append(all, l...)
	}
	return all
}

// operations describes the routes that are the same in every program. The
// others are described with the domains.
var operations = fixedOperations()

func fixedOperations() map[string]operation {
	all := map[string]operation{
		"GET /v1/openapi.json":  {id: "openapi", tag: "about", summary: "This document.", answers: ok(json.RawMessage{})},
		"GET /v1/asyncapi.json": {id: "asyncapi", tag: "about", summary: "The AsyncAPI document of the topics.", answers: ok(json.RawMessage{})},
		"GET /v1":               {id: "describe", tag: "about", summary: "What runs here.", answers: ok(Description{})},
		"GET /v1/map":           {id: "map", tag: "about", summary: "A map of what runs here.", query: []string{"domain", "instance", "format"}, answers: []reply{{status: http.StatusOK, of: diagram.Graph{}}, {status: http.StatusOK, media: "text/plain"}}},
		"GET /metrics":          {id: "metrics", tag: "about", summary: "Measurements, for Prometheus.", answers: []reply{{status: http.StatusOK, media: "text/plain"}}},
		"GET /livez":            {id: "livez", tag: "about", summary: "Whether the program is alive.", answers: ok(healthBody{})},
		"GET /readyz":           {id: "readyz", tag: "about", summary: "Whether the program can do its work.", answers: ok(healthBody{})},

		"GET /v1/blame/{aggregate}/{id}": {id: "blame", tag: "states", summary: "Which events made the state of an entity what it is.", query: []string{"from", "to"}, answers: ok(Blame{})},

		"GET /v1/commands":               {id: "list-commands", tag: "commands", summary: "Commands that were stored first, or rejected, the latest first.", query: params([]string{"state", "command", "actor"}, pageQuery, nowAndThen), answers: ok(CommandPage{})},
		"GET /v1/commands/{id}":          {id: "command-status", tag: "commands", summary: "What became of a command; with wait, when that is settled.", query: []string{"wait"}, answers: ok(CommandStatus{})},
		"GET /v1/commands/{id}/live":     {id: "command-live", tag: "commands", summary: "The events of a command as they happen.", answers: sent()},
		"POST /v1/commands/{id}/cancel":  {id: "cancel-command", tag: "commands", summary: "Call a command off.", headers: who, body: reasonBody{}, answers: accepted(CommandStatus{})},
		"POST /v1/commands/{id}/resume":  {id: "resume-command", tag: "commands", summary: "Go on with a command that has failed.", headers: who, answers: accepted(CommandStatus{})},
		"POST /v1/commands/{id}/retry":   {id: "retry-command", tag: "commands", summary: "The same as resume.", headers: who, answers: accepted(CommandStatus{})},
		"POST /v1/commands/{id}/correct": {id: "correct-command", tag: "commands", summary: "Other parameters for an invalid command: the body.", headers: who, body: json.RawMessage{}, answers: accepted(CommandStatus{})},

		"GET /v1/tasks":                {id: "list-tasks", tag: "tasks", summary: "What processes and sagas ask people, the latest first.", query: params([]string{"state", "role", "instance", "claimed_by"}, pageQuery, nowAndThen), answers: ok(TaskPage{})},
		"GET /v1/tasks/{id}":           {id: "get-task", tag: "tasks", summary: "A task.", answers: ok(deed.Task{})},
		"POST /v1/tasks/{id}/claim":    {id: "claim-task", tag: "tasks", summary: "Make a task yours.", headers: who, answers: ok(deed.Task{})},
		"POST /v1/tasks/{id}/release":  {id: "release-task", tag: "tasks", summary: "Give a task back.", headers: who, answers: ok(deed.Task{})},
		"POST /v1/tasks/{id}/decision": {id: "decide-task", tag: "tasks", summary: "Decide a task.", headers: who, body: decisionBody{}, answers: ok(deed.Task{})},

		"GET /v1/streams/{category}/{id...}": {id: "read-stream", tag: "log", summary: "The events of a stream.", query: []string{"from", "limit", "backward"}, answers: ok(StreamPage{})},
		"GET /v1/events":                     {id: "read-log", tag: "log", summary: "The log, from a cursor.", query: []string{"after", "category", "type", "limit"}, answers: ok(LogPage{})},
		"GET /v1/events/live":                {id: "tail-log", tag: "log", summary: "Events as they happen.", query: []string{"after", "category", "type"}, headers: []string{"Last-Event-ID"}, answers: sent()},

		"GET /v1/changes/{view}": {id: "tail-view", tag: "views", summary: "Documents of a view as they change.", query: []string{"after", "key"}, headers: []string{"Last-Event-ID"}, answers: sent()},
		"GET /v1/groups":         {id: "list-groups", tag: "groups", summary: "The groups there are.", answers: ok(Groups{})},
		"GET /v1/queries":        {id: "list-queries", tag: "queries", summary: "The queries there are.", answers: ok(QueryList{})},

		"GET /v1/topics":                {id: "list-topics", tag: "topics", summary: "The topics there are.", answers: ok(TopicList{})},
		"GET /v1/topics/{topic}":        {id: "get-topic", tag: "topics", summary: "A topic.", answers: ok(deed.TopicInfo{})},
		"GET /v1/topics/{topic}/events": {id: "read-topic", tag: "topics", summary: "Public events of a topic, from a cursor; X-Next-Cursor says where to go on.", query: []string{"after", "type", "limit", "wait"}, answers: []reply{{status: http.StatusOK, of: []deed.CloudEvent{}, media: "application/cloudevents-batch+json"}}},

		"GET /v1/nodes":                     {id: "list-nodes", tag: "operation", summary: "The processes that share the store.", answers: ok(NodeList{})},
		"GET /v1/followers":                 {id: "list-followers", tag: "operation", summary: "How the followers are doing.", answers: ok(FollowerList{})},
		"POST /v1/followers/{name}/pause":   {id: "pause-follower", tag: "operation", summary: "Let a follower rest.", headers: who, answers: ok(deed.FollowerStatus{})},
		"POST /v1/followers/{name}/resume":  {id: "resume-follower", tag: "operation", summary: "Let a follower go on.", headers: who, answers: ok(deed.FollowerStatus{})},
		"POST /v1/followers/{name}/rebuild": {id: "rebuild-follower", tag: "operation", summary: "Make the documents of a follower anew.", headers: who, answers: accepted(deed.FollowerStatus{})},
		"POST /v1/followers/{name}/forget":  {id: "forget-follower", tag: "operation", summary: "Remove what is kept of a follower that no program has any more.", headers: who, body: reasonBody{}, answers: done()},
		"POST /v1/compaction":               {id: "compact", tag: "operation", summary: "Give up records of commands that nobody needs.", headers: who, body: compactionBody{}, answers: ok(deed.Compacted{})},

		"GET /v1/rebuilds/{view}":      {id: "rebuild-status", tag: "operation", summary: "Which documents of a view are shown, built and kept.", answers: ok(deed.Rebuild{})},
		"GET /v1/rebuilds/{view}/diff": {id: "rebuild-diff", tag: "operation", summary: "How new documents of a view differ from those shown.", query: []string{"samples"}, answers: ok(deed.RebuildDiff{})},
		"POST /v1/rebuilds/{view}":     {id: "begin-rebuild", tag: "operation", summary: "Make the documents of a view anew, beside.", headers: who, body: RebuildRequest{}, answers: accepted(deed.Rebuild{})},

		"GET /v1/keys":              {id: "list-keys", tag: "keys", summary: "The API keys, without their secrets.", query: []string{"after", "limit"}, answers: ok(KeyPage{})},
		"POST /v1/keys":             {id: "create-key", tag: "keys", summary: "Make an API key.", headers: who, body: NewKey{}, answers: []reply{{status: http.StatusCreated, of: IssuedKey{}}}},
		"POST /v1/keys/{id}/revoke": {id: "revoke-key", tag: "keys", summary: "Make an API key useless.", headers: who, body: reasonBody{}, answers: ok(auth.Key{})},
		"POST /v1/keys/{id}/rotate": {id: "rotate-key", tag: "keys", summary: "A new text for an API key.", headers: who, body: overlapBody{}, answers: ok(IssuedKey{})},
	}
	for _, verb := range []string{"switch", "pause", "resume", "cancel", "rollback", "discard"} {
		all["POST /v1/rebuilds/{view}/"+verb] = operation{id: verb + "-rebuild", tag: "operation", summary: "Of a rebuild: " + verb + ".", headers: who, answers: accepted(deed.Rebuild{})}
	}
	addDeadLetters(all)
	addReceptions(all)
	addSubscriptions(all)
	addInstances(all, "saga", "sagas")
	addInstances(all, "process", "processes")
	return all
}

// addDeadLetters describes what is about dead letters.
func addDeadLetters(all map[string]operation) {
	job := []reply{{status: http.StatusOK, of: deed.LetterJob{}}, {status: http.StatusAccepted, of: deed.LetterJob{}}}
	for pattern, op := range map[string]operation{
		"GET /v1/dead-letters":                   {id: "list-dead-letters", summary: "What could not be handled.", query: params([]string{"after", "limit"}, letterFilters), answers: ok(DeadLetterPage{})},
		"GET /v1/dead-letters/groups":            {id: "group-dead-letters", summary: "Dead letters by what they failed of.", query: letterFilters, answers: ok(LetterGroups{})},
		"POST /v1/dead-letters/redrive":          {id: "redrive-dead-letters", summary: "Try several dead letters again.", headers: who, body: LetterAct{}, answers: job},
		"POST /v1/dead-letters/discard":          {id: "discard-dead-letters", summary: "Pass several dead letters over.", headers: who, body: LetterAct{}, answers: job},
		"GET /v1/dead-letters/jobs":              {id: "list-dead-letter-jobs", summary: "What is being done with many dead letters, and what was.", query: []string{"limit"}, answers: ok(LetterJobs{})},
		"GET /v1/dead-letters/jobs/{id}":         {id: "get-dead-letter-job", summary: "How it stands with what is being done with many dead letters.", answers: ok(deed.LetterJob{})},
		"POST /v1/dead-letters/jobs/{id}/cancel": {id: "cancel-dead-letter-job", summary: "Stop what is being done with many dead letters.", headers: who, body: reasonBody{}, answers: ok(deed.LetterJob{})},
		"GET /v1/dead-letters/{id}":              {id: "get-dead-letter", summary: "A dead letter.", answers: ok(deed.DeadLetter{})},
		"POST /v1/dead-letters/{id}/edit":        {id: "edit-dead-letter", summary: "Let a follower see other data in the place of an event's.", headers: who, body: Editing{}, answers: ok(EditedLetter{})},
		"POST /v1/dead-letters/{id}/redrive":     {id: "redrive-dead-letter", summary: "Try a dead letter again; with dry_run, say what would be done.", headers: who, body: dryBody{}, answers: []reply{{status: http.StatusOK, of: Redriven{}, or: deed.LetterJob{}}}},
		"POST /v1/dead-letters/{id}/discard":     {id: "discard-dead-letter", summary: "Pass a dead letter over.", headers: who, body: reasonBody{}, answers: done()},
	} {
		op.tag = "operation"
		all[pattern] = op
	}
}

// addReceptions describes what is about messages of others.
func addReceptions(all map[string]operation) {
	const one = "/v1/receptions/{reception}/senders/{name}"
	events := []string{"application/cloudevents+json", "application/cloudevents-batch+json"}
	for pattern, op := range map[string]operation{
		"GET /v1/receptions":                       {id: "list-receptions", summary: "The receptions there are.", answers: ok(ReceptionList{})},
		"POST /v1/receptions/{reception}/messages": {id: "send-messages", summary: "Send messages, as CloudEvents.", headers: who, body: json.RawMessage{}, takes: events, answers: ok(deed.Accepted{})},
		"POST " + one:                              {id: "receive-messages", summary: "Messages of a sender that proves itself who it is, in its format.", body: json.RawMessage{}, takes: events, answers: ok(json.RawMessage{})},
		"OPTIONS " + one:                           {id: "receive-consent", summary: "Whether the messages of a sender are wanted (CloudEvents).", answers: nothing()},
		"GET /v1/senders":                          {id: "list-senders", summary: "All senders.", answers: ok(SenderList{})},
		"GET /v1/receptions/{reception}/senders":   {id: "list-senders-of-reception", summary: "The senders of a reception.", answers: ok(SenderList{})},
		"GET " + one:                               {id: "get-sender", summary: "A sender.", answers: ok(Sender{})},
		"PUT " + one:                               {id: "put-sender", summary: "Make or change a sender.", headers: who, body: SenderSettings{}, answers: ok(MadeSender{})},
		"DELETE " + one:                            {id: "delete-sender", summary: "End a sender.", headers: who, answers: done()},
		"POST " + one + "/rotate":                  {id: "rotate-sender", summary: "A new secret for a sender.", headers: who, body: secretBody{}, answers: ok(Secrets{})},
		"POST " + one + "/test":                    {id: "test-sender", summary: "What would be made of messages.", body: json.RawMessage{}, takes: events, answers: ok(TriedMessages{})},
	} {
		op.tag = "receptions"
		all[pattern] = op
	}
}

// addSubscriptions describes what is about subscriptions and queues.
func addSubscriptions(all map[string]operation) {
	const one = "/v1/topics/{topic}/subscriptions/{name}"
	for pattern, op := range map[string]operation{
		"GET /v1/subscriptions":                  {id: "list-subscriptions", summary: "All subscriptions.", answers: ok(SubscriptionList{})},
		"GET /v1/topics/{topic}/subscriptions":   {id: "list-subscriptions-of-topic", summary: "The subscriptions of a topic.", answers: ok(SubscriptionList{})},
		"GET " + one:                             {id: "get-subscription", summary: "A subscription.", answers: ok(deed.SubscriptionStatus{})},
		"PUT " + one:                             {id: "put-subscription", summary: "Make or change a subscription.", headers: who, body: NewSubscription{}, answers: ok(MadeSubscription{})},
		"DELETE " + one:                          {id: "delete-subscription", summary: "End a subscription.", headers: who, answers: done()},
		"GET " + one + "/attempts":               {id: "list-attempts", summary: "The latest attempts at deliveries.", answers: ok(AttemptList{})},
		"POST " + one + "/pause":                 {id: "pause-subscription", summary: "Let a subscription rest.", headers: who, answers: ok(deed.SubscriptionStatus{})},
		"POST " + one + "/resume":                {id: "resume-subscription", summary: "Let a subscription go on.", headers: who, answers: ok(deed.SubscriptionStatus{})},
		"POST " + one + "/redrive":               {id: "redrive-subscription", summary: "Try its dead letters again.", headers: who, answers: ok(Redriven{})},
		"POST " + one + "/reset":                 {id: "reset-subscription", summary: "Let a subscription begin elsewhere.", headers: who, body: resetBody{}, answers: ok(deed.Reset{})},
		"POST " + one + "/test":                  {id: "test-subscription", summary: "Send a subscription a test event.", answers: ok(deed.Attempt{})},
		"POST " + one + "/rotate":                {id: "rotate-subscription", summary: "New secrets for a subscription.", headers: who, answers: ok(Secrets{})},
		"POST " + one + "/lock":                  {id: "lock-messages", summary: "Of a queue: lock messages.", body: Locking{}, answers: ok(MessageList{})},
		"POST " + one + "/renew":                 {id: "renew-message", summary: "Of a queue: lock a message for longer.", body: Settling{}, answers: ok(Renewed{})},
		"POST " + one + "/complete":              {id: "complete-message", summary: "Of a queue: a message is done.", body: Settling{}, answers: done()},
		"POST " + one + "/abandon":               {id: "abandon-message", summary: "Of a queue: give a message back.", body: Settling{}, answers: done()},
		"POST " + one + "/dead-letter":           {id: "bury-message", summary: "Of a queue: make a message a dead letter.", body: Settling{}, answers: done()},
		"GET " + one + "/messages":               {id: "list-messages", summary: "Of a queue: its messages, or its dead letters.", query: []string{"dead", "after", "limit"}, answers: ok(MessageList{})},
		"POST " + one + "/messages/{id}/redrive": {id: "redrive-message", summary: "Of a queue: try a dead letter again.", headers: who, answers: ok(Redriven{})},
		"POST " + one + "/messages/{id}/discard": {id: "discard-message", summary: "Of a queue: pass a dead letter over.", headers: who, body: reasonBody{}, answers: done()},
	} {
		op.tag = "topics"
		all[pattern] = op
	}
}

// addInstances describes what is about sagas, or processes, of any kind.
func addInstances(all map[string]operation, kind, kinds string) {
	one := "/v1/" + kinds + "/{name}/{id}"
	all["GET /v1/"+kinds] = operation{id: "list-" + kinds, tag: kinds, summary: "Those that changed last first.", query: params([]string{"name", "state", "definition"}, pageQuery, nowAndThen), answers: ok(InstancePage{})}
	all["GET "+one] = operation{id: kind + "-status", tag: kinds, summary: "How one stands; with wait, when it is over or stuck.", query: []string{"wait", "history"}, answers: ok(InstanceStatus{})}
	all["GET "+one+"/live"] = operation{id: kind + "-live", tag: kinds, summary: "Its events as they happen.", answers: sent()}
	for _, verb := range []string{"cancel", "retry", "undo", "skip", "close"} {
		all["POST "+one+"/"+verb] = operation{id: verb + "-" + kind, tag: kinds, summary: "Repair one: " + verb + ".", headers: who, body: repairingBody{}, answers: ok(deed.Instance{})}
	}
	for _, verb := range []string{"cancel", "retry", "undo"} {
		all["POST /v1/"+kinds+"/"+verb] = operation{id: verb + "-" + kinds, tag: kinds, summary: "Ask it of many at once: " + verb + ".", query: []string{"name", "state", "all", "dry_run", "after"}, headers: who, body: repairingBody{}, answers: ok(Many{})}
	}
}

// sharedParameters are parameters in the query string, and headers.
var sharedParameters = map[string]struct {
	text   string
	schema *schema.Schema
}{
	"after":        {"Where to go on: what a page gave as next.", schema.Of("string")},
	"limit":        {"So many at most.", &schema.Schema{Types: schema.Types{"integer"}, Minimum: whole(1), Maximum: whole(maxPage)}},
	"sort":         {"An index; with - in front, descending.", schema.Of("string")},
	"count":        {"Whether to count what there is on all pages.", schema.Of("boolean")},
	"search":       {"Words; \"words in a row\", beginn*.", schema.Of("string")},
	"at":           {"As was known at this time.", &schema.Schema{Types: schema.Types{"string"}, Format: "date-time"}},
	"effective":    {"As is known now of what was true at this time.", &schema.Schema{Types: schema.Types{"string"}, Format: "date-time"}},
	"position":     {"As was known at this place in the log.", schema.Of("string")},
	"version":      {"As of this version.", &schema.Schema{Types: schema.Types{"integer"}, Minimum: whole(1)}},
	"min-position": {"Wait until what is read knows this place in the log, for example the position of a receipt.", schema.Of("string")},
	"wait":         {"How long to wait at most, for example 10s.", schema.Of("string")},
	"max-age":      {"How old the answer may be, for example 10s.", schema.Of("string")},
	"from":         {"Where to begin.", schema.Of("string")},
	"to":           {"Where to end.", schema.Of("string")},
	"backward":     {"The latest first.", schema.Of("boolean")},
	"history":      {"Whether to send its events too.", schema.Of("boolean")},
	"dead":         {"The dead letters only.", schema.Of("boolean")},
	"all":          {"All of which it can be asked.", schema.Of("boolean")},
	"dry_run":      {"Say of which it would be asked, and ask it of none.", schema.Of("boolean")},
	"samples":      {"So many documents that differ are shown.", &schema.Schema{Types: schema.Types{"integer"}, Minimum: whole(0), Maximum: whole(maxPage)}},
	"state":        {"Only those in this state.", schema.Of("string")},
	"command":      {"Only commands of this name.", schema.Of("string")},
	"actor":        {"Only what this actor asked.", schema.Of("string")},
	"role":         {"Only what is for this role.", schema.Of("string")},
	"instance":     {"Only what this process or saga asks; of a map, KIND/NAME/ID.", schema.Of("string")},
	"claimed_by":   {"Only those of this actor.", schema.Of("string")},
	"name":         {"Only those of this name.", schema.Of("string")},
	"definition":   {"Only those of this version of the definition.", schema.Of("string")},
	"subscription": {"Only those of this subscription.", schema.Of("string")},
	"kind":         {"Only those of this kind.", schema.Of("string")},
	"fingerprint":  {"Only those that failed of this.", schema.Of("string")},
	"older":        {"Only those parked longer ago, for example 24h.", schema.Of("string")},
	"follower":     {"Only those of this follower.", schema.Of("string")},
	"category":     {"Only events of these categories, separated by commas.", schema.Of("string")},
	"type":         {"Only events of these types, separated by commas.", schema.Of("string")},
	"key":          {"Only this document.", schema.Of("string")},
	"domain":       {"Only this domain.", schema.Of("string")},
	"format":       {"json, mermaid or markdown.", &schema.Schema{Types: schema.Types{"string"}, Enum: []any{"json", "mermaid", "markdown"}}},

	"Idempotency-Key":  {"The id of what is asked, up to 128 characters: the same key gives the same answer again.", &schema.Schema{Types: schema.Types{"string"}}},
	"If-Match":         {`Only on this version, in quotes: "3"; "0" if there is to be none yet.`, schema.Of("string")},
	"Prefer":           {"respond-async, or wait=N: seconds to wait for what is handled in the background.", schema.Of("string")},
	"Deed-Deliver":     {"Where the answer goes: <https://host/path>, <file:name>, <topic:name>.", schema.Of("string")},
	"Last-Event-ID":    {"Where to go on.", schema.Of("string")},
	"X-Actor":          {"Who asks.", schema.Of("string")},
	"X-Correlation-Id": {"The flow it belongs to.", schema.Of("string")},
	"X-Causation-Id":   {"What led to it.", schema.Of("string")},
}

func whole(n int) *int { return &n }

// answerHeaders are the headers of answers.
var answerHeaders = map[string]string{
	"ETag":              "The version, in quotes.",
	"Location":          "Where it is found.",
	"Idempotent-Replay": "true: the answer was given before.",
	"X-Read-Position":   "How far the log was read.",
	"Age":               "So many seconds old the answer may be.",
}

// refusals are the problems that operations of a domain answer with.
var refusals = map[int]struct{ name, text string }{
	http.StatusBadRequest:          {"Invalid", "invalid: what was asked is malformed; errors says which field is wrong."},
	http.StatusForbidden:           {"Forbidden", "forbidden: who asks has none of the roles that it takes."},
	http.StatusNotFound:            {"NotFound", "not_found: it is not there."},
	http.StatusConflict:            {"Conflict", "conflict: another version, or an id in use; in_progress: it is being handled."},
	http.StatusUnprocessableEntity: {"Rejected", "rejected: the domain said no, reason is its code; idempotency_mismatch: the key was used for something else."},
	http.StatusTooManyRequests:     {"QuotaExceeded", "quota_exceeded: asked too often."},
	http.StatusServiceUnavailable:  {"Unavailable", "unavailable: the store cannot serve, or a view has not read that far yet."},
}
