// entering: serve HTTP on a port of loopback, and connect to what the lines of standard
// input say.
const http = require('node:http');
const net = require('node:net');
const readline = require('node:readline');

const server = http.createServer((request, response) => response.end('hello'));
server.listen(0, '127.0.0.1', () => console.log(`127.0.0.1:${server.address().port}`));
setInterval(() => {}, 10);
readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const [host, port] = line.split(':');
  const socket = net.connect(port, host, () => {
    console.log('ok');
    socket.destroy();
  });
  socket.on('error', () => console.log('refused'));
});
