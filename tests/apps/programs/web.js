// web.js serve PORT | web.js load HOST PORT: an HTTP server, and clients that keep alive.
const http = require('node:http');

const [, , what, ...rest] = process.argv;

function serve(port) {
  const server = http.createServer((request, response) => {
    let length = 0;
    request.on('data', (chunk) => { length += chunk.length; });
    request.on('end', () => {
      response.setHeader('Content-Type', 'text/plain');
      response.end(`node ${request.method} ${length}\n`);
    });
  });
  server.listen(port, '::', () => console.log('ready'));
}

function ask(agent, host, port, body) {
  return new Promise((resolve, reject) => {
    const options = { agent, host, port, method: 'POST' };
    const request = http.request(options, (response) => {
      let text = '';
      response.on('data', (chunk) => { text += chunk; });
      response.on('end', () => resolve(text));
    });
    request.on('error', reject);
    request.end(body);
  });
}

async function load(host, port) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 10 });
  const body = 'x'.repeat(100000);
  const all = await Promise.all(
    Array.from({ length: 100 }, () => ask(agent, host, port, body)),
  );
  agent.destroy();
  console.log(`served ${all.filter((text) => text === 'node POST 100000\n').length}`);
}

if (what === 'serve') serve(Number(rest[0]));
else load(rest[0], Number(rest[1]));
