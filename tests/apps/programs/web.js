// web.js serve PORT | load HOST PORT | crowd HOST PORT CLIENTS
//
// An HTTP server; clients that share connections; clients that are all there at once,
// for a request of /together/N is answered when N of them wait for it.
const http = require('node:http');

const [, , what, ...rest] = process.argv;

function serve(port) {
  let waiting = [];
  const server = http.createServer((request, response) => {
    let length = 0;
    request.on('data', (chunk) => { length += chunk.length; });
    request.on('end', () => {
      response.setHeader('Content-Type', 'text/plain');
      const answer = () => response.end(`node ${request.method} ${length}\n`);
      if (!request.url.startsWith('/together/')) return answer();
      waiting.push(answer);
      if (waiting.length < Number(request.url.split('/')[2])) return undefined;
      waiting.forEach((one) => one());
      waiting = [];
      return undefined;
    });
  });
  server.listen({ port, host: '::', backlog: 2048 }, () => console.log('ready'));
}

function ask(agent, host, port, path, body) {
  return new Promise((resolve, reject) => {
    const options = { agent, host, port, path, method: 'POST' };
    const request = http.request(options, (response) => {
      let text = '';
      response.on('data', (chunk) => { text += chunk; });
      response.on('end', () => resolve(text));
    });
    request.on('error', reject);
    request.end(body);
  });
}

async function load(host, port, path, clients, maxSockets) {
  const agent = new http.Agent({ keepAlive: true, maxSockets });
  const body = 'x'.repeat(100000);
  const all = await Promise.all(
    Array.from({ length: clients }, () => ask(agent, host, port, path, body)),
  );
  agent.destroy();
  console.log(`served ${all.filter((text) => text === 'node POST 100000\n').length}`);
}

const [host, port, clients] = [rest[0], Number(rest[1]), Number(rest[2])];
if (what === 'serve') serve(Number(rest[0]));
else if (what === 'load') load(host, port, '/', 100, 10);
else load(host, port, `/together/${clients}`, clients, Infinity);
