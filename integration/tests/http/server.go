// A server of Go's library: server PORT, on all addresses of both families, until its input ends.
package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
)

func main() {
	big := bytes.Repeat([]byte("x"), 1<<20)
	for path, status := range map[string]int{"/missing": 404, "/moved": 301, "/broken": 500, "/nothing": 204} {
		http.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/")
			w.WriteHeader(status)
		})
	}
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "hello\n") })
	http.HandleFunc("/big", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(big)))
		w.Write(big)
	})
	http.HandleFunc("/chunked", func(w http.ResponseWriter, _ *http.Request) {
		for _, size := range []int{1, 20, 5000} {
			w.Write(big[:size])
			w.(http.Flusher).Flush()
		}
	})
	http.HandleFunc("/post", func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "taken\n")
	})
	door, err := net.Listen("tcp", ":"+os.Args[1])
	if err != nil {
		panic(err)
	}
	go http.Serve(door, nil)
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
}
