// web serve PORT | load HOST PORT CLIENTS | crowd HOST PORT CLIENTS
//
// An HTTP server, and clients of it; those of a crowd are all there at once, for a
// request of /together/N is answered when N of them wait for it.
package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

const (
	body  = "hello from go\n"
	limit = 60 * time.Second
)

// A gate lets those who wait at it through when there are enough.
type gate struct {
	sync.Mutex
	waiting []chan struct{}
}

func (g *gate) pass(count int) {
	mine := make(chan struct{})
	g.Lock()
	g.waiting = append(g.waiting, mine)
	if len(g.waiting) >= count {
		for _, one := range g.waiting {
			close(one)
		}
		g.waiting = nil
	}
	g.Unlock()
	<-mine
}

func serve(port string) error {
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	var together gate
	return http.Serve(listener, http.HandlerFunc(
		func(w http.ResponseWriter, r *http.Request) {
			var count int
			if n, _ := fmt.Sscanf(r.URL.Path, "/together/%d", &count); n == 1 {
				together.pass(count)
			}
			_, _ = io.WriteString(w, body)
		}))
}

func ask(url string) error {
	client := http.Client{Timeout: limit}
	response, err := client.Get(url)
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

func load(host, port, path string, clients int) {
	url := "http://" + net.JoinHostPort(host, port) + path
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
}

func main() {
	if os.Args[1] == "serve" {
		fmt.Fprintln(os.Stderr, serve(os.Args[2]))
		os.Exit(1)
	}
	path := "/"
	if os.Args[1] == "crowd" {
		path = "/together/" + os.Args[4]
	}
	clients, _ := strconv.Atoi(os.Args[4])
	load(os.Args[2], os.Args[3], path, clients)
}
