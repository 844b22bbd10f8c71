import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.Executors;
import java.util.concurrent.TimeUnit;

/**
 * Web serve PORT | load HOST PORT CLIENTS | crowd HOST PORT CLIENTS
 *
 * An HTTP server, and clients of it; those of a crowd are all there at once, for a
 * request of /together/N is answered when N of them wait for it.
 */
public class Web {
    private static final String BODY = "hello from java\n";

    public static void main(String[] args) throws Exception {
        if (args[0].equals("serve")) {
            serve(Integer.parseInt(args[1]));
        } else {
            load(args[1], Integer.parseInt(args[2]), Integer.parseInt(args[3]),
                args[0].equals("crowd") ? "/together/" + args[3] : "/");
        }
    }

    private static void serve(int port) throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress(port), 2048);
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.createContext("/", Web::answer);
        List<HttpExchange> waiting = new ArrayList<>();
        server.createContext("/together/", exchange -> {
            String path = exchange.getRequestURI().getPath();
            int count = Integer.parseInt(path.split("/")[2]);
            synchronized (waiting) {
                waiting.add(exchange);
                if (waiting.size() >= count) {
                    for (HttpExchange one : waiting) {
                        answer(one);
                    }
                    waiting.clear();
                }
            }
        });
        server.start();
        System.out.println("ready");
    }

    private static void answer(HttpExchange exchange) throws IOException {
        byte[] body = BODY.getBytes();
        exchange.sendResponseHeaders(200, body.length);
        exchange.getResponseBody().write(body);
        exchange.close();
    }

    private static void load(String host, int port, int clients, String path)
            throws Exception {
        HttpClient client = HttpClient.newBuilder()
            .version(HttpClient.Version.HTTP_1_1).build();
        String at = InetAddress.getByName(host).getHostAddress();
        if (at.contains(":")) {
            at = "[" + at + "]";
        }
        URI uri = URI.create("http://" + at + ":" + port + path);
        List<CompletableFuture<HttpResponse<String>>> all = new ArrayList<>();
        for (int i = 0; i < clients; i++) {
            all.add(client.sendAsync(HttpRequest.newBuilder(uri).build(),
                HttpResponse.BodyHandlers.ofString()));
        }
        int served = 0;
        for (CompletableFuture<HttpResponse<String>> one : all) {
            if (one.get(60, TimeUnit.SECONDS).body().equals(BODY)) {
                served++;
            }
        }
        System.out.println("served " + served);
        System.exit(0);
    }
}
