// Looks a name up again and again, with Go's own resolver: lookup NAME COUNT
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
)

func main() {
	count, _ := strconv.Atoi(os.Args[2])
	resolver := net.Resolver{PreferGo: true}
	for i := 0; i < count; i++ {
		if _, err := resolver.LookupHost(context.Background(), os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	fmt.Printf("{\"answered\":%d}\n", count)
}
