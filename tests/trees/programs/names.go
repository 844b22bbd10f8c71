// Say which address a datagram would leave from, by each of the stacks.
// Usage: names STACK...
package main

import (
	"fmt"
	"os"
	"strings"
	"syscall"
	"unsafe"
)

const msocket = 30061

func name(stack string) (string, error) {
	path, err := syscall.BytePtrFromString(stack)
	if err != nil {
		return "", err
	}
	fd, _, errno := syscall.Syscall6(msocket, uintptr(unsafe.Pointer(path)),
		syscall.AF_INET, syscall.SOCK_DGRAM, 0, 0, 0)
	if errno != 0 {
		return "", errno
	}
	to := &syscall.SockaddrInet4{Port: 53, Addr: [4]byte{192, 0, 2, 1}}
	if err := syscall.Connect(int(fd), to); err != nil {
		return "", err
	}
	own, err := syscall.Getsockname(int(fd))
	if err != nil {
		return "", err
	}
	a := own.(*syscall.SockaddrInet4).Addr
	return fmt.Sprintf("%d.%d.%d.%d", a[0], a[1], a[2], a[3]), nil
}

func main() {
	var own []string
	for _, stack := range os.Args[1:] {
		one, err := name(stack)
		if err != nil {
			fmt.Fprintln(os.Stderr, stack, err)
			os.Exit(1)
		}
		own = append(own, one)
	}
	fmt.Println(strings.Join(own, " "))
}
