package main

import (
	"context"
	"database/sql"
	"time"

	"github.com/cschleiden/go-workflows/backend"
	"github.com/cschleiden/go-workflows/backend/monoprocess"
	wfpostgres "github.com/cschleiden/go-workflows/backend/postgres"
	wfsqlite "github.com/cschleiden/go-workflows/backend/sqlite"
	"github.com/cschleiden/go-workflows/client"
	"github.com/cschleiden/go-workflows/worker"
	"github.com/cschleiden/go-workflows/workflow"
	_ "github.com/jackc/pgx/v5/stdlib"
)

type workflowSystem struct {
	db      *sql.DB
	backend backend.Backend
	client  *client.Client
	worker  *worker.Worker
	cancel  func()
	data    bool
	file    bool
}

func openWorkflows(ctx context.Context, c cell) (_ system, err error) {
	w := &workflowSystem{data: c.Shape == "data", file: c.Store == "sqlite"}
	log := backend.WithLogger(quiet)
	var b backend.Backend
	if w.file {
		if w.db, err = openFile(ctx, c, 1); err != nil { // what its own constructor does
			return nil, err
		}
		b = wfsqlite.NewSqliteBackendWithDB(w.db, wfsqlite.WithApplyMigrations(true), wfsqlite.WithBackendOptions(log))
	} else {
		if w.db, err = sql.Open("pgx", c.DSN); err != nil {
			return nil, err
		}
		n := setting("SAGAS_CONNS", 20)
		w.db.SetMaxOpenConns(n)
		w.db.SetMaxIdleConns(n)
		if err := makeTables(ctx, w.db); err != nil {
			return nil, err
		}
		b = wfpostgres.NewPostgresBackendWithDB(w.db, wfpostgres.WithApplyMigrations(true), wfpostgres.WithBackendOptions(log))
	}
	// The worker is in the same process as the client, and is told at once.
	w.backend = monoprocess.NewMonoprocessBackend(b)
	o := worker.DefaultOptions
	o.WorkflowPollers = setting("SAGAS_POLLERS", 2)
	o.ActivityPollers = o.WorkflowPollers
	o.WorkflowExecutorCacheSize = 1024
	w.worker, w.client = worker.New(w.backend, &o), client.New(w.backend)
	for _, err := range []error{
		w.worker.RegisterWorkflow(w.run), w.worker.RegisterActivity(w.create), w.worker.RegisterActivity(w.reserve), w.worker.RegisterActivity(w.pay),
	} {
		if err != nil {
			return nil, err
		}
	}
	var running context.Context
	running, w.cancel = context.WithCancel(ctx)
	return w, w.worker.Start(running)
}

// run is the saga.
func (w *workflowSystem) run(ctx workflow.Context, o order) (string, error) {
	if _, err := workflow.ExecuteActivity[string](ctx, workflow.DefaultActivityOptions, w.create, o).Get(ctx); err != nil {
		return "", err
	}
	if _, err := workflow.ExecuteActivity[string](ctx, workflow.DefaultActivityOptions, w.reserve, o).Get(ctx); err != nil {
		return "", err
	}
	return workflow.ExecuteActivity[string](ctx, workflow.DefaultActivityOptions, w.pay, o).Get(ctx)
}

func (w *workflowSystem) create(ctx context.Context, o order) (string, error) {
	return created(o), w.write(ctx, createOrder, o.ID, o.SKU, o.Amount)
}

func (w *workflowSystem) reserve(ctx context.Context, o order) (string, error) {
	return reserved(o), w.write(ctx, reserveStock, o.SKU)
}

func (w *workflowSystem) pay(ctx context.Context, o order) (string, error) {
	return paid(o), w.write(ctx, takePayment, o.ID, o.Amount)
}

func (w *workflowSystem) write(ctx context.Context, query string, args ...any) error {
	if !w.data {
		return nil
	}
	_, err := w.db.ExecContext(ctx, query, args...)
	return err
}

func (w *workflowSystem) saga(ctx context.Context, o order) error {
	i, err := w.client.CreateWorkflowInstance(ctx, client.WorkflowInstanceOptions{InstanceID: o.ID}, w.run, o)
	if err != nil {
		return err
	}
	_, err = client.GetWorkflowResult[string](ctx, w.client, i, time.Minute)
	return err
}

func (w *workflowSystem) counts() counts {
	if w.file {
		return ofFiles()
	}
	return counts{}
}

// settle has nothing to wait for: go-workflows does nothing afterwards.
func (w *workflowSystem) settle(context.Context) error { return nil }

func (w *workflowSystem) close() error {
	w.cancel()
	if err := w.worker.WaitForCompletion(); err != nil {
		return err
	}
	return w.db.Close()
}
