package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/deed-dev/deed"
)

// metrics counts what the API does, and reports on the runtime's followers
// whenever it is asked.
type metrics struct {
	registry *prometheus.Registry
	requests *prometheus.HistogramVec
	commands *prometheus.CounterVec
}

func newMetrics(rt *deed.Runtime) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "deed_http_request_duration_seconds", Help: "How long HTTP requests took.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1, 5, 30},
		}, []string{"method", "route", "status"}),
		commands: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "deed_commands_total", Help: "Commands asked over HTTP, by what became of them.",
		}, []string{"aggregate", "command", "outcome"}),
	}
	m.registry.MustRegister(m.requests, m.commands, followerCollector{rt}, letterCollector{rt}, queryCollector{rt},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) handler() http.Handler {
	// What cannot be found out, because the store is away, is left out and counted.
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry, ErrorHandling: promhttp.ContinueOnError})
}

func (m *metrics) request(method, route string, status int, took time.Duration) {
	switch method {
	case http.MethodGet, http.MethodPost, http.MethodHead, http.MethodPut, http.MethodDelete:
	default:
		method = "other" // callers choose it: there must not be a series for each
	}
	m.requests.WithLabelValues(method, route, strconv.Itoa(status)).Observe(took.Seconds())
}

func (m *metrics) command(aggregate, command string, err error) {
	outcome := "completed"
	if err != nil {
		outcome = problemOf(err).Code
	}
	if errors.Is(err, deed.ErrUnknown) {
		aggregate, command = "unknown", "unknown"
	}
	m.commands.WithLabelValues(aggregate, command, outcome).Inc()
}

// followerCollector reports on followers at the moment of asking.
type followerCollector struct{ rt *deed.Runtime }

var (
	behindDesc = prometheus.NewDesc("deed_follower_behind_events", "How many events, at most, a follower has still to read.", []string{"follower"}, nil)
	lagDesc    = prometheus.NewDesc("deed_follower_lag_seconds", "Age of the oldest event a follower has not handled; 0 = caught up.", []string{"follower"}, nil)
	deadDesc   = prometheus.NewDesc("deed_follower_dead_letters", "Events a follower has parked.", []string{"follower", "state"}, nil)
	upDesc     = prometheus.NewDesc("deed_follower_running", "1 if a follower moves, 0 if it is paused, stopped or waits for the store.", []string{"follower"}, nil)
	beatDesc   = prometheus.NewDesc("deed_follower_heartbeat_timestamp_seconds", "When a follower last showed signs of life.", []string{"follower"}, nil)
)

// Describe implements prometheus.Collector.
func (c followerCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{behindDesc, lagDesc, deadDesc, upDesc, beatDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c followerCollector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for _, f := range c.rt.Followers().List() {
		gauge(behindDesc, float64(f.Behind), f.Name)
		gauge(lagDesc, f.LagSeconds, f.Name)
		gauge(deadDesc, float64(f.Retrying), f.Name, "retrying")
		gauge(deadDesc, float64(f.Waiting), f.Name, "waiting")
		gauge(deadDesc, float64(f.Dead), f.Name, "dead")
		up := 0.0
		if f.State == "running" || f.State == "rebuilding" {
			up = 1
		}
		gauge(upDesc, up, f.Name)
		if f.Heartbeat != nil {
			gauge(beatDesc, float64(f.Heartbeat.UnixMilli())/1000, f.Name)
		}
	}
}

// letterCollector reports on dead letters at the moment of asking.
type letterCollector struct{ rt *deed.Runtime }

var (
	lettersDesc = prometheus.NewDesc("deed_dead_letters", "Events and messages that could not be handled; of a queue up to 1000 are counted.", []string{"name", "kind", "state"}, nil)
	oldestDesc  = prometheus.NewDesc("deed_dead_letter_age_seconds", "Age of the oldest dead letter that failed; 0 = there is none.", []string{"name", "kind"}, nil)
)

// countFor is how long counting dead letters may take.
const countFor = 5 * time.Second

// Describe implements prometheus.Collector.
func (c letterCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- lettersDesc
	ch <- oldestDesc
}

// Collect implements prometheus.Collector.
func (c letterCollector) Collect(ch chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), countFor)
	defer cancel()
	counts, err := c.rt.DeadLetters().Counts(ctx)
	if err != nil {
		ch <- prometheus.NewInvalidMetric(lettersDesc, err)
		return
	}
	for _, n := range counts {
		for state, of := range map[string]int{"retrying": n.Retrying, "waiting": n.Waiting, "dead": n.Dead} {
			ch <- prometheus.MustNewConstMetric(lettersDesc, prometheus.GaugeValue, float64(of), n.Name, n.Kind, state)
		}
		age := 0.0
		if !n.Oldest.IsZero() {
			age = max(0, time.Since(n.Oldest).Seconds())
		}
		ch <- prometheus.MustNewConstMetric(oldestDesc, prometheus.GaugeValue, age, n.Name, n.Kind)
	}
}

// queryCollector reports on queries at the moment of asking.
type queryCollector struct{ rt *deed.Runtime }

var (
	askedDesc    = prometheus.NewDesc("deed_queries_asked_total", "Askings of queries.", nil, nil)
	cachedDesc   = prometheus.NewDesc("deed_queries_cached_total", "Askings that were answered with an answer given before, which nothing had changed.", nil, nil)
	computedDesc = prometheus.NewDesc("deed_queries_computed_total", "Answers that were made.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c queryCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{askedDesc, cachedDesc, computedDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c queryCollector) Collect(ch chan<- prometheus.Metric) {
	stats := c.rt.Queries().Stats()
	for d, n := range map[*prometheus.Desc]uint64{askedDesc: stats.Asked, cachedDesc: stats.Cached, computedDesc: stats.Computed} {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n))
	}
}
