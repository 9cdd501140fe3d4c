package main

import (
	"context"
	"database/sql"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"
	_ "github.com/dbos-inc/dbos-transact-golang/dbos/driver/sqlite"
	"github.com/jackc/pgx/v5/pgxpool"
)

type dbosSystem struct {
	ctx     dbos.Context
	data    *dbos.DataSource
	run     dbos.Workflow[order, string]
	release func()
	file    bool
}

func openDBOS(ctx context.Context, c cell) (_ system, err error) {
	d := &dbosSystem{file: c.Store == "sqlite"}
	cfg := dbos.Config{AppName: "shop", ApplicationVersion: "1", Logger: quiet}
	var db *sql.DB
	var pool *pgxpool.Pool
	if d.file {
		if db, err = openFile(ctx, c, setting("SAGAS_CONNS", 1)); err != nil {
			return nil, err
		}
		cfg.SQLiteSystemDB, d.release = db, func() { db.Close() }
	} else {
		if pool, err = openPool(ctx, c, setting("SAGAS_CONNS", 20)); err != nil {
			return nil, err
		}
		cfg.SystemDBPool, d.release = pool, pool.Close
	}
	if d.ctx, err = dbos.NewContext(ctx, cfg); err != nil {
		return nil, err
	}
	if d.file {
		d.data, err = dbos.NewDataSource(d.ctx, db)
	} else {
		d.data, err = dbos.NewDataSource(d.ctx, pool)
	}
	if err != nil {
		return nil, err
	}
	if d.run = d.bare; c.Shape == "data" {
		d.run = d.writing
	}
	dbos.RegisterWorkflow(d.ctx, d.run)
	return d, dbos.Launch(d.ctx)
}

func openPool(ctx context.Context, c cell, conns int) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(c.DSN)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = int32(conns)
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	for _, t := range tables {
		if _, err := pool.Exec(ctx, t); err != nil {
			return nil, err
		}
	}
	return pool, nil
}

// bare is a saga whose steps return a value.
func (d *dbosSystem) bare(ctx dbos.Context, o order) (string, error) {
	if _, err := dbos.RunAsStep(ctx, func(context.Context) (string, error) { return created(o), nil }); err != nil {
		return "", err
	}
	if _, err := dbos.RunAsStep(ctx, func(context.Context) (string, error) { return reserved(o), nil }); err != nil {
		return "", err
	}
	return dbos.RunAsStep(ctx, func(context.Context) (string, error) { return paid(o), nil })
}

// writing is one whose steps write data: DBOS records the step in the same
// transaction.
func (d *dbosSystem) writing(ctx dbos.Context, o order) (string, error) {
	if _, err := dbos.RunAsTransaction(ctx, d.data, func(ctx context.Context, tx dbos.Tx) (string, error) {
		_, err := tx.Exec(ctx, createOrder, o.ID, o.SKU, o.Amount)
		return created(o), err
	}); err != nil {
		return "", err
	}
	if _, err := dbos.RunAsTransaction(ctx, d.data, func(ctx context.Context, tx dbos.Tx) (string, error) {
		_, err := tx.Exec(ctx, reserveStock, o.SKU)
		return reserved(o), err
	}); err != nil {
		return "", err
	}
	return dbos.RunAsTransaction(ctx, d.data, func(ctx context.Context, tx dbos.Tx) (string, error) {
		_, err := tx.Exec(ctx, takePayment, o.ID, o.Amount)
		return paid(o), err
	})
}

func (d *dbosSystem) saga(_ context.Context, o order) error {
	h, err := dbos.RunWorkflow(d.ctx, d.run, o, dbos.WithWorkflowID(o.ID))
	if err != nil {
		return err
	}
	_, err = h.GetResult()
	return err
}

func (d *dbosSystem) counts() counts {
	if d.file {
		return ofFiles()
	}
	return counts{}
}

// settle has nothing to wait for: DBOS does nothing afterwards.
func (d *dbosSystem) settle(context.Context) error { return nil }

func (d *dbosSystem) close() error {
	err := dbos.Shutdown(d.ctx, 5*time.Second)
	d.release()
	return err
}
