package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/lib/pq"
)

var always = context.Background()

func codeOf(err error) string {
	var ofPgx *pgconn.PgError
	if errors.As(err, &ofPgx) {
		return ofPgx.Code
	}
	var ofPq *pq.Error
	if errors.As(err, &ofPq) {
		return string(ofPq.Code)
	}
	return ""
}

// The driver's own word for each statement that it prepares by itself.
type preparations struct{ number atomic.Int64 }

func (*preparations) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

func (*preparations) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}

func (*preparations) TracePrepareStart(ctx context.Context, _ *pgx.Conn, _ pgx.TracePrepareStartData) context.Context {
	return ctx
}

func (p *preparations) TracePrepareEnd(_ context.Context, _ *pgx.Conn, data pgx.TracePrepareEndData) {
	if !data.AlreadyPrepared {
		p.number.Add(1)
	}
}

func configured(mode pgx.QueryExecMode) (*pgx.ConnConfig, *preparations) {
	// Without a word about it the driver asks for TLS first, and is refused.
	config, err := pgx.ParseConfig("postgres://tester@" + address + "/postgres")
	nothing(err)
	prepared := &preparations{}
	config.DefaultQueryExecMode, config.Tracer = mode, prepared
	return config, prepared
}

func opened(mode pgx.QueryExecMode) (*pgx.Conn, *preparations) {
	config, prepared := configured(mode)
	line, err := pgx.ConnectConfig(always, config)
	nothing(err)
	return line, prepared
}

// All rows of it.
func asked(line *pgx.Conn, sql string, arguments ...any) error {
	rows, err := line.Query(always, sql, arguments...)
	if err != nil {
		return err
	}
	for rows.Next() {
	}
	return rows.Err()
}

func told(line *pgx.Conn, sql string, arguments ...any) error {
	_, err := line.Exec(always, sql, arguments...)
	return err
}

// Everything as text, values too.
func pgxSimple() {
	line, prepared := opened(pgx.QueryExecModeSimpleProtocol)
	for number := range count {
		got := 0
		ok(line.QueryRow(always, returnsItsOwn, number).Scan(&got))
		is(got == number, got)
		ok(told(line, "select 1; select 2; select 3"))
		ok(told(line, ""))
		ok(asked(line, "select generate_series(1, 2000)"))
		ok(line.Ping(always))
		fails(asked(line, "selec nonsense"), syntaxError)
		fails(told(line, "select 1; select 1 / 0; select 2"), divisionByZero)
	}
	is(prepared.number.Load() == 0)
	nothing(line.Close(always))
}

// The default: each statement is prepared when it is first used on a connection, which is a request of its own.
func pgxCached() {
	for range 2 {
		line, prepared := opened(pgx.QueryExecModeCacheStatement)
		for number := range count {
			first := 0
			if number == 0 {
				first = 1
			}
			ok(asked(line, returnsItsOwn, number), first)
			ok(asked(line, "select $1::text, $2::text", "one", nil), first)
			ok(asked(line, "select generate_series(1, $1::int)", 2000), first)
			// Without arguments it is a simple query, and nothing is prepared.
			ok(told(line, "select 7"))
		}
		is(prepared.number.Load() == 3, prepared.number.Load())
		nothing(line.Close(always))
	}
	// More statements than it keeps: each is prepared anew when its turn comes. To close one is no request.
	config, prepared := configured(pgx.QueryExecModeCacheStatement)
	config.StatementCacheCapacity = 2
	line, err := pgx.ConnectConfig(always, config)
	nothing(err)
	for number := range count {
		ok(asked(line, fmt.Sprintf("select %d, $1::int", number%3), number), 1)
	}
	is(prepared.number.Load() == int64(count))
	nothing(line.Close(always))
}

// Parsed each time: with what is known of the statement from its first use on, with a question for it before each, with none.
func pgxDescribed() {
	for mode, wanted := range map[pgx.QueryExecMode]int64{
		pgx.QueryExecModeCacheDescribe: 1,
		pgx.QueryExecModeDescribeExec:  int64(count),
		pgx.QueryExecModeExec:          0,
	} {
		line, prepared := opened(mode)
		for number := range count {
			ok(asked(line, returnsItsOwn, number))
		}
		is(prepared.number.Load() == wanted, mode, prepared.number.Load())
		note("ok", int(wanted))
		fails(asked(line, divides, 0), divisionByZero)
		if mode != pgx.QueryExecModeExec {
			note("ok", 1)
		}
		nothing(line.Close(always))
	}
}

func pgxNamed() {
	line, _ := opened(pgx.QueryExecModeCacheStatement)
	for range count {
		_, err := line.Prepare(always, "named", returnsItsOwn)
		ok(err)
		// There already.
		_, err = line.Prepare(always, "named", returnsItsOwn)
		nothing(err)
		for number := range 5 {
			ok(asked(line, "named", number))
		}
		nothing(line.Deallocate(always, "named"))
		_, err = line.Prepare(always, "nonsense", "selec")
		fails(err, syntaxError)
	}
	nothing(line.Close(always))
}

// Many statements and one end: what is new of them is prepared in a batch of its own, which is one request.
func pgxBatch() {
	line, _ := opened(pgx.QueryExecModeCacheStatement)
	ok(told(line, makesRoom))
	for number := range count {
		batch := &pgx.Batch{}
		for row := range 10 {
			batch.Queue("insert into copied values ($1, $2)", row, "text")
		}
		batch.Queue("select count(*) from copied where a < $1", 1000)
		results := line.SendBatch(always, batch)
		for range 10 {
			_, err := results.Exec()
			ok(err)
		}
		all := 0
		ok(results.QueryRow().Scan(&all))
		is(all == 10*(number+1), all)
		nothing(results.Close())
		if number == 0 {
			note("ok", 1)
		}
	}
	nothing(line.Close(always))
	// As text it is one query.
	line, _ = opened(pgx.QueryExecModeSimpleProtocol)
	for range count {
		batch := &pgx.Batch{}
		batch.Queue(returnsItsOwn, 1)
		batch.Queue(returnsItsOwn, 2)
		ok(line.SendBatch(always, batch).Close())
	}
	nothing(line.Close(always))
	// Nothing is prepared, and what follows one that fails fails with it.
	line, _ = opened(pgx.QueryExecModeExec)
	for range count {
		batch := &pgx.Batch{}
		for _, divisor := range []int{1, 2, 0, 3} {
			batch.Queue(divides, divisor)
		}
		results := line.SendBatch(always, batch)
		for range 2 {
			_, err := results.Exec()
			ok(err)
		}
		_, err := results.Exec()
		fails(err, divisionByZero)
		note("failed", 1)
		is(codeOf(results.Close()) == divisionByZero)
	}
	nothing(line.Close(always))
}

// Several batches under way at once, without waiting for the one before.
func pgxPipeline() {
	line, _ := opened(pgx.QueryExecModeExec)
	value := [][]byte{[]byte("1")}
	zero := [][]byte{[]byte("0")}
	for range count {
		pipeline := line.PgConn().StartPipeline(always)
		pipeline.SendPrepare("piped", divides, nil)
		pipeline.SendFlushRequest()
		nothing(pipeline.Flush())
		_, err := pipeline.GetResults()
		nothing(err)
		// To prepare belongs to the first execution behind it.
		for range 3 {
			pipeline.SendQueryPrepared("piped", value, nil, nil)
		}
		pipeline.SendPipelineSync()
		// Both fail, and what is behind their end does not.
		pipeline.SendQueryPrepared("piped", zero, nil, nil)
		pipeline.SendQueryPrepared("piped", value, nil, nil)
		pipeline.SendPipelineSync()
		pipeline.SendQueryParams(divides, value, nil, nil, nil)
		pipeline.SendDeallocate("piped")
		pipeline.SendPipelineSync()
		// One that only prepares.
		pipeline.SendPrepare("", returnsItsOwn, nil)
		nothing(pipeline.Sync())
		failed := 0
		for syncs := 0; syncs < 4; {
			result, err := pipeline.GetResults()
			if reader, is := result.(*pgconn.ResultReader); is && err == nil {
				_, err = reader.Close()
			}
			if _, is := result.(*pgconn.PipelineSync); is {
				syncs++
			}
			if err != nil {
				is(codeOf(err) == divisionByZero, err)
				failed++
			}
		}
		// The driver tells of the first alone.
		is(failed == 1, failed)
		note("failed", 2)
		note("ok", 3+1+1)
		nothing(pipeline.Close())
	}
	nothing(line.Close(always))
}

func pgxErrors() {
	line, prepared := opened(pgx.QueryExecModeCacheStatement)
	for range count {
		// It fails to be prepared, and is not executed.
		fails(asked(line, "selec $1::int", 1), syntaxError)
		// It is prepared, executed, and forgotten for its error: the next time it is prepared again.
		fails(asked(line, divides, 0), divisionByZero)
		note("ok", 1)
		ok(asked(line, divides, 1), 1)
		// Known only after rows have come. The statement is forgotten as well.
		fails(asked(line, "select 1 / (5000 - n) from generate_series($1::int, 6000) n", 1), divisionByZero)
		note("ok", 1)
		// From BEGIN to ROLLBACK.
		transaction, err := line.Begin(always)
		ok(err)
		fails(told(line, "select 1 / 0"), divisionByZero)
		fails(told(line, "select 1"), abortedBefore)
		ok(transaction.Rollback(always))
		transaction, err = line.Begin(always)
		ok(err)
		ok(told(line, "select 1"))
		ok(transaction.Commit(always))
		// For the next turn to be like the first.
		fails(asked(line, divides, 0), divisionByZero)
	}
	is(prepared.number.Load() == int64(4*count), prepared.number.Load())
	nothing(line.Close(always))
}

func pgxPool() {
	config, err := pgxpool.ParseConfig("postgres://tester@" + address + "/postgres")
	nothing(err)
	prepared := &preparations{}
	config.MaxConns, config.ConnConfig.Tracer = 5, prepared
	pool, err := pgxpool.NewWithConfig(always, config)
	nothing(err)
	var group sync.WaitGroup
	for range 10 {
		group.Go(func() {
			for number := range count {
				got := 0
				ok(pool.QueryRow(always, returnsItsOwn, number).Scan(&got))
				is(got == number, got)
			}
		})
	}
	group.Wait()
	pool.Close()
	// By each connection once, on whichever it falls.
	is(prepared.number.Load() >= 1 && prepared.number.Load() <= 5, prepared.number.Load())
	note("ok", int(prepared.number.Load()))
}
