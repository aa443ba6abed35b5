// Asks a server with Go's library: client WAY HOST PORT COUNT PATH... Prints, as JSON, how often it was answered with which
// class of status.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

func main() {
	way, authority, paths := os.Args[1], net.JoinHostPort(os.Args[2], os.Args[3]), os.Args[5:]
	count, _ := strconv.Atoi(os.Args[4])
	client := &http.Client{
		Timeout:   time.Minute,
		Transport: &http.Transport{DisableKeepAlives: way == "each", ExpectContinueTimeout: 10 * time.Second, MaxIdleConnsPerHost: 8},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
	answered, lock := map[string]int{}, sync.Mutex{}
	ask := func(number int) {
		method, body := "GET", io.Reader(nil)
		switch way {
		case "expect":
			method, body = "POST", bytes.NewReader(make([]byte, 200_000))
		case "stream":
			// Of unknown length: in chunks.
			method, body = "POST", io.MultiReader(bytes.NewReader(make([]byte, 3000)), bytes.NewReader(make([]byte, 10)))
		}
		request, err := http.NewRequest(method, "http://"+authority+paths[number%len(paths)], body)
		if err != nil {
			panic(err)
		}
		if way == "expect" {
			request.Header.Set("Expect", "100-continue")
		}
		response, err := client.Do(request)
		if err != nil {
			panic(err)
		}
		io.Copy(io.Discard, response.Body)
		response.Body.Close()
		lock.Lock()
		answered[fmt.Sprintf("%dxx", response.StatusCode/100)]++
		lock.Unlock()
	}
	workers := 1
	if way == "parallel" {
		workers = 8
	}
	var group sync.WaitGroup
	for worker := range workers {
		group.Add(1)
		go func() {
			defer group.Done()
			for number := worker; number < count; number += workers {
				ask(number)
			}
		}()
	}
	group.Wait()
	json.NewEncoder(os.Stdout).Encode(answered)
}
