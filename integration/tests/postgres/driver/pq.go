package main

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"github.com/lib/pq"
)

// One connection, and what its settings are besides.
func openedPq(settings string) *sql.DB {
	pool, err := sql.Open("postgres", "postgres://tester@"+address+"/postgres?sslmode=disable"+settings)
	nothing(err)
	pool.SetMaxOpenConns(1)
	return pool
}

func askedPq(asks interface {
	Query(string, ...any) (*sql.Rows, error)
}, text string, arguments ...any) error {
	rows, err := asks.Query(text, arguments...)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
	}
	return rows.Err()
}

func toldPq(tells interface {
	Exec(string, ...any) (sql.Result, error)
}, text string, arguments ...any) error {
	_, err := tells.Exec(text, arguments...)
	return err
}

func pqText() {
	pool := openedPq("")
	for number := range count {
		ok(askedPq(pool, "select 1"))
		ok(toldPq(pool, "select 1; select 2; select 3"))
		ok(askedPq(pool, "select generate_series(1, 2000)"))
		ok(pool.Ping())
		// With arguments the statement is prepared first, and described.
		ok(askedPq(pool, returnsItsOwn, number), 1)
		transaction, err := pool.Begin()
		ok(err)
		ok(askedPq(transaction, returnsItsOwn, number), 1)
		ok(transaction.Commit())
	}
	nothing(pool.Close())
	// All of that in one go.
	pool = openedPq("&binary_parameters=yes")
	for number := range count {
		ok(askedPq(pool, returnsItsOwn, number))
		ok(toldPq(pool, returnsItsOwn, number))
	}
	nothing(pool.Close())
	// A connection for each.
	for range count {
		pool := openedPq("")
		ok(askedPq(pool, "select 1"))
		nothing(pool.Close())
	}
}

func pqPrepared() {
	pool := openedPq("")
	for range count {
		statement, err := pool.Prepare(returnsItsOwn)
		ok(err)
		for number := range 5 {
			got := 0
			ok(statement.QueryRow(number).Scan(&got))
			is(got == number, got)
		}
		nothing(statement.Close())
		_, err = pool.Prepare("selec")
		fails(err, syntaxError)
	}
	nothing(pool.Close())
}

func pqErrors() {
	for _, settings := range []string{"", "&binary_parameters=yes"} {
		pool := openedPq(settings)
		for range count {
			fails(askedPq(pool, "selec nonsense"), syntaxError)
			fails(askedPq(pool, "selec $1", 1), syntaxError)
			fails(toldPq(pool, "select 1; select 1 / 0; select 2"), divisionByZero)
			fails(askedPq(pool, divides, 0), divisionByZero)
			fails(askedPq(pool, "select 1 / (5000 - n) from generate_series($1::int, 6000) n", 1), divisionByZero)
			if settings == "" {
				note("ok", 2)
			}
			transaction, err := pool.Begin()
			ok(err)
			fails(toldPq(transaction, "select 1 / 0"), divisionByZero)
			fails(toldPq(transaction, "select 1"), abortedBefore)
			ok(transaction.Rollback())
		}
		nothing(pool.Close())
	}
}

func pqCopy() {
	pool := openedPq("")
	ok(toldPq(pool, makesRoom))
	for range count {
		transaction, err := pool.Begin()
		ok(err)
		statement, err := transaction.Prepare(pq.CopyIn("copied", "a", "b"))
		nothing(err)
		for row := range rowsThatAreMany {
			_, err := statement.Exec(row, strings.Repeat("x", 100))
			nothing(err)
		}
		_, err = statement.Exec()
		ok(err)
		nothing(statement.Close())
		ok(transaction.Commit())
		transaction, err = pool.Begin()
		ok(err)
		statement, err = transaction.Prepare(pq.CopyIn("copied", "a", "b"))
		nothing(err)
		_, err = statement.Exec("no number", "row")
		nothing(err)
		_, err = statement.Exec()
		fails(err, badText)
		ok(transaction.Rollback())
	}
	nothing(pool.Close())
}

// A context ends while its query runs. The driver has it cancelled, and gives the connection up.
func pqCancelled() {
	pool := openedPq("")
	for range count {
		ok(askedPq(pool, "select 1"))
		context, cancel := context.WithTimeout(always, time.Second/2)
		_, err := pool.ExecContext(context, longEnough)
		fails(err, queryCancelled)
		cancel()
	}
	nothing(pool.Close())
}

func pqLarge() {
	pool := openedPq("")
	value := strings.Repeat("Q", largeRow)
	for range count {
		got := ""
		ok(pool.QueryRow("select $1::text", value).Scan(&got), 1)
		is(got == value, len(got))
		ok(askedPq(pool, "select repeat('x', 1 << 20) from generate_series(1, 3)"))
		ok(toldPq(pool, "select length('"+value+"')"))
		ok(askedPq(pool, "select 1"))
	}
	nothing(pool.Close())
}
