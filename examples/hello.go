// SPDX-License-Identifier: GPL-2.0-or-later

// hello is a web server and its own clients, to be built static: it has no C library,
// so it makes its system calls and its name lookups by itself.
//
// Usage: hello [PORT]
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
)

const clients = 50

func fail(err error) {
	fmt.Fprintln(os.Stderr, "hello:", err)
	os.Exit(1)
}

func main() {
	port := "80"
	if len(os.Args) > 1 {
		port = os.Args[1]
	}
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		fail(err)
	}
	go http.Serve(listener, http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello") }))

	var wait sync.WaitGroup
	answers := make(chan string, clients)
	for i := 0; i < clients; i++ {
		wait.Add(1)
		go func() {
			defer wait.Done()
			response, err := http.Get("http://localhost:" + port + "/")
			if err != nil {
				fail(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil {
				fail(err)
			}
			answers <- string(body)
		}()
	}
	wait.Wait()
	count := len(answers)
	fmt.Printf("%d times %q\n", count, <-answers)
}
