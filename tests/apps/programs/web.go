// An HTTP server, and clients of it: web serve PORT | web load HOST PORT.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
)

const (
	body    = "hello from go\n"
	clients = 100
)

func serve(port string) error {
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	return http.Serve(listener, http.HandlerFunc(
		func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, body)
		}))
}

func ask(url string) error {
	response, err := http.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err == nil && string(text) != body {
		err = fmt.Errorf("got %q", text)
	}
	return err
}

func load(host, port string) error {
	url := "http://" + net.JoinHostPort(host, port) + "/"
	var group sync.WaitGroup
	var served int32
	for i := 0; i < clients; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			if err := ask(url); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return
			}
			atomic.AddInt32(&served, 1)
		}()
	}
	group.Wait()
	fmt.Println("served", served)
	return nil
}

func main() {
	var err error
	if os.Args[1] == "serve" {
		err = serve(os.Args[2])
	} else {
		err = load(os.Args[2], os.Args[3])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
