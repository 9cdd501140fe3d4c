package httpapi

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"
)

type requestKey struct{}

// A request is what the log says of one.
type request struct {
	id    string
	actor string // "" = not known
}

func requestID(ctx context.Context) string {
	if r, ok := ctx.Value(requestKey{}).(*request); ok {
		return r.id
	}
	return ""
}

// noteActor tells the log of requests who asks.
func noteActor(ctx context.Context, actor string) {
	if r, ok := ctx.Value(requestKey{}).(*request); ok {
		r.actor = actor
	}
}

// traceOf returns the trace id of a traceparent header (W3C Trace Context),
// or "".
func traceOf(header string) string {
	if len(header) != 55 || header[2] != '-' || header[35] != '-' || header[52] != '-' {
		return ""
	}
	id := header[3:35]
	if b, err := hex.DecodeString(id); err != nil || allZero(b) {
		return ""
	}
	return id
}

// isTraceparent reports whether a header is one of the version that is known: what
// is none is passed over, as W3C Trace Context wants it.
func isTraceparent(header string) bool {
	if traceOf(header) == "" || !strings.HasPrefix(header, "00-") || strings.ToLower(header) != header {
		return false
	}
	parent, err := hex.DecodeString(header[36:52])
	_, flagsErr := hex.DecodeString(header[53:])
	return err == nil && flagsErr == nil && !allZero(parent)
}

func allZero(b []byte) bool {
	for _, x := range b {
		if x != 0 {
			return false
		}
	}
	return true
}

func newRequestID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// observe gives each request an id, logs it and counts it.
func (a *api) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		id := traceOf(r.Header.Get("Traceparent"))
		if id == "" {
			id = newRequestID()
		}
		w.Header().Set("X-Request-Id", id)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		of := &request{id: id}
		r = r.WithContext(context.WithValue(r.Context(), requestKey{}, of))
		rec := &recorder{ResponseWriter: w, status: http.StatusOK}
		next.ServeHTTP(rec, r)
		d := time.Since(start)
		a.metrics.request(r.Method, r.Pattern, rec.status, d) // the mux has set the pattern
		level := slog.LevelDebug
		if rec.status >= 500 {
			level = slog.LevelWarn
		}
		if a.log.Enabled(r.Context(), level) {
			a.log.LogAttrs(r.Context(), level, "request", slog.String("method", r.Method), slog.String("path", r.URL.Path),
				slog.Int("status", rec.status), slog.Int64("bytes", rec.bytes), slog.Duration("took", d), slog.String("request", id), slog.String("actor", of.actor))
		}
	})
}

// recover makes a problem of a panic: one request ends, not the program.
func (a *api) recover(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			v := recover()
			if v == nil {
				return
			}
			if v == http.ErrAbortHandler {
				panic(v)
			}
			a.log.Error("panic", "value", v, "request", requestID(r.Context()), "stack", string(debug.Stack()))
			a.fail(w, r, problem(http.StatusInternalServerError, CodeInternal, "this is a defect of the program: the server's log has the details"))
		}()
		next.ServeHTTP(w, r)
	})
}

// recorder remembers what was answered.
type recorder struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	n, err := r.ResponseWriter.Write(b)
	r.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController find the writer underneath.
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }
