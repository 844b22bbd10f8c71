import com.sun.net.httpserver.HttpServer;
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

/** Web serve PORT | Web load HOST PORT: an HTTP server, and clients of it. */
public class Web {
    private static final String BODY = "hello from java\n";
    private static final int CLIENTS = 50;

    public static void main(String[] args) throws Exception {
        if (args[0].equals("serve")) {
            serve(Integer.parseInt(args[1]));
        } else {
            load(args[1], Integer.parseInt(args[2]));
        }
    }

    private static void serve(int port) throws Exception {
        HttpServer server = HttpServer.create(new InetSocketAddress(port), 100);
        server.setExecutor(Executors.newFixedThreadPool(8));
        server.createContext("/", exchange -> {
            byte[] body = BODY.getBytes();
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        server.start();
        System.out.println("ready");
    }

    private static void load(String host, int port) throws Exception {
        HttpClient client = HttpClient.newBuilder()
            .version(HttpClient.Version.HTTP_1_1).build();
        String at = InetAddress.getByName(host).getHostAddress();
        if (at.contains(":")) {
            at = "[" + at + "]";
        }
        URI uri = URI.create("http://" + at + ":" + port + "/");
        List<CompletableFuture<HttpResponse<String>>> all = new ArrayList<>();
        for (int i = 0; i < CLIENTS; i++) {
            all.add(client.sendAsync(HttpRequest.newBuilder(uri).build(),
                HttpResponse.BodyHandlers.ofString()));
        }
        int served = 0;
        for (CompletableFuture<HttpResponse<String>> one : all) {
            if (one.get().body().equals(BODY)) {
                served++;
            }
        }
        System.out.println("served " + served);
        System.exit(0);
    }
}
