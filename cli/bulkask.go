package cli

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/deed-dev/deed"
	"github.com/deed-dev/deed/httpapi"
	"github.com/deed-dev/deed/internal/bulk"
	"github.com/deed-dev/deed/internal/client"
)

// Bounds of the waiting for a server that cannot serve.
const (
	bulkFirstWait = 100 * time.Millisecond
	bulkLastWait  = 5 * time.Second
	bulkMostWait  = time.Minute // for a command that is handled in the background, at a time
)

// one asks the command of a line, again and again if the server cannot serve.
// What it says is the line's result; that it is away is an error.
func (j *bulkJob) one(ctx context.Context, c *client.Client, key string, l bulk.Line) (bulk.Result, error) {
	headers := map[string]string{"Idempotency-Key": key, "Prefer": fmt.Sprintf("wait=%d", int(min(j.wait, bulkMostWait).Seconds()))}
	if j.actor != "" {
		headers["X-Actor"] = j.actor
	}
	parts := []string{"v1", j.aggregate, j.name}
	if l.ID != "" {
		parts = []string{"v1", j.aggregate, l.ID, j.name}
	}
	path := client.Path(nil, parts...)
	for began, wait := time.Now(), bulkFirstWait; ; wait = min(2*wait, bulkLastWait) {
		var r deed.Receipt
		status, _, err := c.Send(ctx, http.MethodPost, path, headers, l.Body, &r)
		var p httpapi.Problem
		switch {
		case err == nil && status == http.StatusAccepted:
			return bulk.Result{Status: status, Stream: r.Stream, Detail: "stored, and not over yet: see deed command show " + key}, nil
		case err == nil:
			return bulk.Result{Status: status, Stream: r.Stream, Version: r.Version}, nil
		case temporary(err) && time.Since(began) < j.wait && ctx.Err() == nil:
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
		case temporary(err) || !errors.As(err, &p) || p.Code == httpapi.CodeUnauthenticated:
			return bulk.Result{}, err
		default:
			code := p.Code
			if p.Reason != "" {
				code = p.Reason
			}
			return bulk.Result{Status: p.Status, Code: code, Detail: p.Detail}, nil
		}
	}
}

// temporary reports whether asking again may get another answer. A conflict
// that names a version means that others were faster too often.
func temporary(err error) bool {
	var p httpapi.Problem
	if !errors.As(err, &p) {
		var gone client.Unreachable
		return errors.As(err, &gone)
	}
	switch p.Code {
	case httpapi.CodeUnavailable, httpapi.CodeOutcomeUnknown, httpapi.CodeInProgress:
		return true
	}
	return p.Code == httpapi.CodeConflict && p.Version != nil
}
