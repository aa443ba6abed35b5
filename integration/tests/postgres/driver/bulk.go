package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
)

// COPY, by the driver's own encoding and by hand.
func pgxCopy() {
	line, prepared := opened(pgx.QueryExecModeCacheStatement)
	ok(told(line, makesRoom))
	table, columns := pgx.Identifier{"copied"}, []string{"a", "b"}
	text := strings.Repeat("7\trow\n", rowsThatAreMany)
	for number := range count {
		first := 0
		if number == 0 {
			first = 1
		}
		// It asks for the types of the columns by a statement that it keeps.
		source := pgx.CopyFromSlice(rowsThatAreMany, func(row int) ([]any, error) { return []any{row, "row"}, nil })
		copied, err := line.CopyFrom(always, table, columns, source)
		ok(err, first)
		is(copied == rowsThatAreMany, copied)
		// Its source fails, after more than it sends at once.
		source = pgx.CopyFromSlice(rowsThatAreMany, func(row int) ([]any, error) {
			if row == rowsThatAreMany-1 {
				return nil, errors.New("no such row")
			}
			return []any{row, strings.Repeat("x", 100)}, nil
		})
		_, err = line.CopyFrom(always, table, columns, source)
		fails(err, queryCancelled)
		bare := line.PgConn()
		_, err = bare.CopyFrom(always, strings.NewReader(text), "copy copied from stdin")
		ok(err)
		_, err = bare.CopyFrom(always, strings.NewReader("no number\trow\n"), "copy copied from stdin")
		fails(err, badText)
		// Refused amid the data: of much the driver notices before it has sent all.
		_, err = bare.CopyFrom(always, strings.NewReader("no number\trow\n"+strings.Repeat(text, 50)), "copy copied from stdin")
		fails(err, badText)
		var out bytes.Buffer
		_, err = bare.CopyTo(always, &out, "copy copied to stdout")
		ok(err)
		is(bytes.Count(out.Bytes(), []byte("\n")) == 2*rowsThatAreMany*(number+1), out.Len())
		_, err = bare.CopyTo(always, io.Discard, "copy nowhere to stdout")
		fails(err, "42P01")
		ok(asked(line, "select count(*) from copied where a < $1", 7), first)
	}
	is(prepared.number.Load() == 2, prepared.number.Load())
	nothing(line.Close(always))
}

// A context ends while its query runs.
func pgxCancelled() {
	soon := func() (context.Context, context.CancelFunc) { return context.WithTimeout(always, time.Second/2) }
	for range count {
		// The connection goes with it: the driver has the query cancelled, says goodbye and reads to the end.
		line, _ := opened(pgx.QueryExecModeCacheStatement)
		ok(asked(line, "select 1"), 1)
		context, cancel := soon()
		_, err := line.Exec(context, longEnough)
		is(err != nil && context.Err() != nil, err)
		cancel()
		<-line.PgConn().CleanupDone()
		note("failed", 1)
	}
	// It is kept.
	config, _ := configured(pgx.QueryExecModeCacheStatement)
	config.BuildContextWatcherHandler = func(line *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: line, DeadlineDelay: time.Minute}
	}
	line, err := pgx.ConnectConfig(always, config)
	nothing(err)
	for range count {
		context, cancel := soon()
		_, err := line.Exec(context, longEnough)
		fails(err, queryCancelled)
		cancel()
		context, cancel = soon()
		_, err = line.Exec(context, "select pg_sleep($1)", 60)
		fails(err, queryCancelled)
		note("ok", 1)
		cancel()
		ok(asked(line, "select 1"))
	}
	note("ok", 1)
	nothing(line.Close(always))
}

func pgxLarge() {
	line, _ := opened(pgx.QueryExecModeCacheStatement)
	value := strings.Repeat("Q", largeRow)
	for number := range count {
		first := 0
		if number == 0 {
			first = 1
		}
		got := ""
		ok(line.QueryRow(always, "select $1::text", value).Scan(&got), first)
		is(got == value, len(got))
		ok(asked(line, "select repeat('x', $1) from generate_series(1, 3)", largeRow), first)
		ok(told(line, "select length('"+value+"')"))
		ok(asked(line, returnsItsOwn, 1), first)
	}
	nothing(line.Close(always))
}

// Several large values in one write.
func pgxHeap() {
	line, _ := opened(pgx.QueryExecModeExec)
	value := strings.Repeat("Q", largeRow)
	for range count {
		batch := &pgx.Batch{}
		for range 3 {
			batch.Queue("select length($1::text)", value)
		}
		results := line.SendBatch(always, batch)
		for range 3 {
			_, err := results.Exec()
			ok(err)
		}
		nothing(results.Close())
		ok(asked(line, returnsItsOwn, 1))
		ok(told(line, "select 1"))
	}
	nothing(line.Close(always))
}
