// Asks a PostgreSQL server with the drivers that Go programs use. Prints, as JSON, how many requests were answered, and with what:
// each call by what its driver's documentation says it sends, which stands beside the call where that is more than one.
//
// client ADDRESS PORT WAY COUNT
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
)

var (
	address  string
	count    int
	lock     sync.Mutex
	answered = map[string]int{"ok": 0, "failed": 0}
)

func note(status string, number int) {
	lock.Lock()
	answered[status] += number
	lock.Unlock()
}

// One request that has to be answered well, and that many that are sent for it besides.
func ok(err error, besides ...int) {
	if err != nil {
		panic(err)
	}
	note("ok", 1)
	for _, number := range besides {
		note("ok", number)
	}
}

// One that has to fail with an error of the server's.
func fails(err error, code string) {
	if got := codeOf(err); got != code {
		panic(fmt.Sprintf("%v: %q, not %s", err, got, code))
	}
	note("failed", 1)
}

// What sends nothing that counts: logging in, the closing of a statement.
func nothing(err error) {
	if err != nil {
		panic(err)
	}
}

func is(holds bool, what ...any) {
	if !holds {
		panic(fmt.Sprint(what...))
	}
}

// https://www.postgresql.org/docs/current/errcodes-appendix.html
const (
	syntaxError     = "42601"
	divisionByZero  = "22012"
	abortedBefore   = "25P02"
	queryCancelled  = "57014"
	badCopyFormat   = "22P04"
	badText         = "22P02"
	largeRow        = 1 << 20
	longEnough      = "select pg_sleep(60)"
	divides         = "select 1 / $1::int"
	returnsItsOwn   = "select $1::int"
	makesRoom       = "create temp table copied (a int, b text)"
	rowsThatAreMany = 3000
)

func main() {
	address = net.JoinHostPort(os.Args[1], os.Args[2])
	count, _ = strconv.Atoi(os.Args[4])
	way, known := ways[os.Args[3]]
	is(known, os.Args[3])
	way()
	json.NewEncoder(os.Stdout).Encode([][]any{{"ok", answered["ok"]}, {"failed", answered["failed"]}})
}

var ways = map[string]func(){
	"pgx-simple":    pgxSimple,
	"pgx-cached":    pgxCached,
	"pgx-described": pgxDescribed,
	"pgx-named":     pgxNamed,
	"pgx-batch":     pgxBatch,
	"pgx-pipeline":  pgxPipeline,
	"pgx-errors":    pgxErrors,
	"pgx-copy":      pgxCopy,
	"pgx-cancelled": pgxCancelled,
	"pgx-large":     pgxLarge,
	"pgx-heap":      pgxHeap,
	"pgx-pool":      pgxPool,
	"pq-text":       pqText,
	"pq-prepared":   pqPrepared,
	"pq-errors":     pqErrors,
	"pq-copy":       pqCopy,
	"pq-cancelled":  pqCancelled,
	"pq-large":      pqLarge,
}
