// entering: serve HTTP on a port of loopback, with threads at work, and connect to what
// the lines of standard input say.
package main

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"
)

func answer(w http.ResponseWriter, _ *http.Request) {
	fmt.Fprint(w, "hello")
}

func connect(address string) string {
	conn, err := net.DialTimeout("tcp", address, 10*time.Second)
	if err != nil {
		return "refused"
	}
	conn.Close()
	return "ok"
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go http.Serve(listener, http.HandlerFunc(answer))
	for i := 0; i < 4; i++ {
		go func() {
			for {
				connect(listener.Addr().String())
				time.Sleep(time.Millisecond)
			}
		}()
	}
	fmt.Println(listener.Addr())
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		fmt.Println(connect(lines.Text()))
	}
}
